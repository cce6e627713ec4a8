//! `bindgen IN.wasm NAME OUT_DIR` writes `NAME.js` and `NAME_bg.wasm`, ready for
//! `<script type="module">`.

use std::process::ExitCode;
use wasm_bindgen_cli_support::Bindgen;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, name, out_dir] = arguments.as_slice() else {
        eprintln!("usage: bindgen IN.wasm NAME OUT_DIR");
        return ExitCode::from(2);
    };
    let mut bindgen = Bindgen::new();
    let made = bindgen.web(true).and_then(|bindgen| {
        bindgen
            .input_path(input)
            .out_name(name)
            .typescript(false)
            // Names serve stack traces only, and are a third of the download.
            .remove_name_section(true)
            .remove_producers_section(true)
            .generate(out_dir)
    });
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bindgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}
