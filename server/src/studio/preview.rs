//! A LoRA's picture: the file beside it that other programs keep there, made small. Only pixels
//! leave the server, never the file itself.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use atelier_app::backend::Answer;
use atelier_app::error::AppError;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageFormat, ImageReader, Rgb, RgbImage};

use crate::error::ServerError;
use crate::gallery::decoding_turn;
use crate::models::AddOns;

/// Longest side of the picture that is answered, in pixels.
const SIDE: u32 = 256;
/// Largest file that is read.
const MOST_BYTES: u64 = 32 * 1024 * 1024;
/// Most pixels of it.
const MOST_PIXELS: u64 = 64_000_000;

/// A small picture.
pub struct Preview {
    /// A JPEG.
    pub jpeg: Vec<u8>,
    /// Changes with the file.
    pub mark: String,
}

pub(super) async fn of_lora(add_ons: &AddOns, name: &str) -> Answer<Preview> {
    let (add_ons, name) = (add_ons.clone(), name.to_owned());
    let found = blocking(move || {
        let path = add_ons.lora_picture(&name)?;
        let bytes = read(&path)?;
        Some((path, bytes))
    });
    let (path, bytes) = found.await?.ok_or(AppError::NotFound)?;
    let Some((format, pixels)) = header(&bytes) else {
        tracing::warn!(path = %path.display(), "a LoRA's picture is no image that can be shown");
        return Err(AppError::NotFound);
    };
    let mark = mark_of(&path);
    let turn = decoding_turn(pixels).await?;
    let drawn = blocking(move || {
        let _turn = turn;
        small(&bytes, format)
    });
    match drawn.await? {
        Ok(jpeg) => Ok(Preview { jpeg, mark }),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a LoRA's picture cannot be read");
            Err(AppError::NotFound)
        }
    }
}

/// Changes whenever a file does.
fn mark_of(path: &Path) -> String {
    let about = fs::metadata(path).ok();
    let at = about
        .as_ref()
        .and_then(|about| about.modified().ok())
        .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |since| since.as_millis());
    format!("{at:x}-{:x}", about.map_or(0, |about| about.len()))
}

fn read(path: &PathBuf) -> Option<Vec<u8>> {
    let about = fs::metadata(path).ok()?;
    (about.is_file() && about.len() <= MOST_BYTES)
        .then(|| fs::read(path).ok())
        .flatten()
}

/// Format and number of pixels, by what the file holds and not by what it is called.
fn header(bytes: &[u8]) -> Option<(ImageFormat, u64)> {
    let reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .ok()?;
    let format = reader.format()?;
    let known = matches!(
        format,
        ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP
    );
    let (width, height) = reader.into_dimensions().ok()?;
    let pixels = u64::from(width) * u64::from(height);
    (known && pixels > 0 && pixels <= MOST_PIXELS).then_some((format, pixels))
}

fn small(bytes: &[u8], format: ImageFormat) -> Result<Vec<u8>, image::ImageError> {
    let picture = image::load_from_memory_with_format(bytes, format)?;
    let picture = if picture.width().max(picture.height()) > SIDE {
        picture.thumbnail(SIDE, SIDE)
    } else {
        picture
    };
    // JPEG has no transparency: what shows through is white, as paper is.
    let mut flat = RgbImage::new(picture.width(), picture.height());
    for (to, from) in flat.pixels_mut().zip(picture.to_rgba8().pixels()) {
        let [red, green, blue, alpha] = from.0.map(u32::from);
        let over = |colour: u32| ((colour * alpha + 255 * (255 - alpha)) / 255) as u8;
        *to = Rgb([over(red), over(green), over(blue)]);
    }
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 85).encode_image(&flat)?;
    Ok(jpeg)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServerError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ServerError::broken(format!("a picture's task ended early: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pictures_become_small_and_opaque_and_other_files_nothing() {
        let clear = image::RgbaImage::from_pixel(600, 300, image::Rgba([0, 0, 0, 0]));
        let mut png = Cursor::new(Vec::new());
        clear.write_to(&mut png, ImageFormat::Png).unwrap();
        let (format, pixels) = header(png.get_ref()).unwrap();
        assert_eq!((format, pixels), (ImageFormat::Png, 180_000));
        let jpeg = small(png.get_ref(), format).unwrap();
        let shown = image::load_from_memory(&jpeg).unwrap().into_rgb8();
        assert_eq!(shown.dimensions(), (256, 128));
        assert!(shown.get_pixel(10, 10).0.iter().all(|value| *value > 250));
        for other in [
            &b"root:x:0:0"[..],
            b"",
            b"GIF89a\x01\0\x01\0",
            b"\x89PNG\r\n\x1a\n",
        ] {
            assert_eq!(header(other), None);
        }
        let cut = &png.get_ref()[..png.get_ref().len() / 2];
        assert!(small(cut, ImageFormat::Png).is_err());
    }
}
