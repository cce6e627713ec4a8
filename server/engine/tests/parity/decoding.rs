//! Image files of every kind that people bring, against Pillow's reading of them.
//! Recorded by `tests/record_decoding.py`.

use std::fs;

use atelier_engine::image::read_rgb;

use crate::fixtures::fixture;
use crate::images::difference;

/// What a JPEG may differ by: the standard leaves the last bit of the transform and the way thinned
/// out chroma is spread to each decoder.
const JPEG: (f64, u8) = (0.5, 4);

#[test]
fn files_are_read_as_pillow_reads_them() {
    let folder = fixture("decoding");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("recorded files")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.into_string().expect("a name"))
        .filter(|name| !name.ends_with(".ref"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 15, "{names:?}");
    for name in names {
        let bytes = fs::read(folder.join(&name)).expect("read");
        let got = read_rgb("init_image", &bytes).expect("a picture");
        let want = fs::read(folder.join(format!("{name}.ref"))).expect("Pillow's reading");
        let want = image::load_from_memory(&want).expect("a picture").to_rgb8();
        assert_eq!(got.dimensions(), want.dimensions(), "{name}");
        let (mean, max) = difference(&got, &want);
        println!("{name}: mean {mean:.3}, max {max}");
        let (most, largest) = if name.ends_with(".jpg") {
            JPEG
        } else {
            (0.0, 0)
        };
        assert!(
            mean <= most && max <= largest,
            "{name}: mean {mean}, max {max}"
        );
    }
}
