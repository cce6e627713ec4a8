//! Sending a picture to the server, and finding pictures in what is dropped or pasted.

use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, DataTransfer, FileList, RequestInit, Response};

/// What somebody dropped, pasted or picked.
pub enum Given {
    /// A file.
    File(Blob),
    /// An image of the gallery, by its id.
    Image(String),
}

/// The first picture in what was dropped or pasted.
pub fn picture_in(data: &DataTransfer) -> Option<Given> {
    if let Some(image) = ["text/uri-list", "text/html", "text/plain"]
        .iter()
        .find_map(|kind| gallery_image(&data.get_data(kind).ok()?))
    {
        return Some(Given::Image(image));
    }
    picture_of(data.files()?).map(Given::File)
}

/// Whether what is dragged may hold a picture: only its kinds can be seen while it is in the air.
pub fn may_hold_picture(data: &DataTransfer) -> bool {
    data.types()
        .iter()
        .filter_map(|kind| kind.as_string())
        .any(|kind| kind == "Files" || kind == "text/uri-list")
}

/// The first picture of some files.
pub fn picture_of(files: FileList) -> Option<Blob> {
    (0..files.length())
        .filter_map(|at| files.get(at))
        .find(|file| file.type_().starts_with("image/"))
        .map(Blob::from)
}

/// The id of an image of this server's gallery in an address of its file or its page.
fn gallery_image(text: &str) -> Option<String> {
    let origin = leptos::prelude::window().location().origin().ok()?;
    for start in ["/images/", "/gallery/"] {
        let here = format!("{origin}{start}");
        for (at, _) in text.match_indices(start) {
            // Another site's picture is a file, if it comes at all.
            let is_ours = text[..at + start.len()].ends_with(&here)
                || !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
            let id: String = text[at + start.len()..]
                .chars()
                .take_while(|c| c.is_ascii_hexdigit() || *c == '-')
                .collect();
            if is_ours && id.len() == 36 {
                return Some(id);
            }
        }
    }
    None
}

/// Sends a file; its upload's id, or what is wrong with it.
pub async fn send(file: &Blob) -> Result<String, String> {
    try_send(file)
        .await
        .unwrap_or_else(|_| Err("The file could not be sent. Try again.".to_owned()))
}

async fn try_send(file: &Blob) -> Result<Result<String, String>, JsValue> {
    let options = RequestInit::new();
    options.set_method("POST");
    options.set_body(file);
    let window = leptos::prelude::window();
    let answer = JsFuture::from(window.fetch_with_str_and_init("/api/uploads", &options));
    let response: Response = answer.await?.dyn_into()?;
    let json = JsFuture::from(response.json()?).await?;
    let text = |key: &str| {
        js_sys::Reflect::get(&json, &key.into())
            .ok()
            .and_then(|value| value.as_string())
    };
    Ok(match (response.ok(), text("id")) {
        (true, Some(id)) => Ok(id),
        _ => Err(text("detail").unwrap_or_else(|| "The file was refused.".to_owned())),
    })
}
