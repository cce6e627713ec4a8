//! Reading the images that people bring along: PNG, JPEG and WebP, turned upright and made opaque
//! RGB or grey as diffusers' `load_image` and Pillow's `convert` do.

use std::io::Cursor;

use ::image::{DynamicImage, GrayImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use crate::EngineError;

/// Largest number of pixels of an image that is read.
pub const MAX_PIXELS: u64 = 64_000_000;
/// Largest width or height of an image that is read.
pub const MAX_SIDE: u32 = 32_768;

/// Reads an image file. The colours are its own; an alpha channel is left out, not blended, and
/// an EXIF orientation is applied.
///
/// # Errors
/// [`EngineError::InvalidRequest`] for `field` if the file is damaged, too large or of another kind.
pub fn read_rgb(field: &'static str, bytes: &[u8]) -> Result<RgbImage, EngineError> {
    let image = decode(bytes).map_err(|message| EngineError::invalid(field, message))?;
    Ok(match image {
        // 16 bits keep their upper half.
        DynamicImage::ImageRgb16(image) => halved(image.width(), image.as_raw(), [0, 1, 2], 3),
        DynamicImage::ImageRgba16(image) => halved(image.width(), image.as_raw(), [0, 1, 2], 4),
        DynamicImage::ImageLuma16(image) => halved(image.width(), image.as_raw(), [0; 3], 1),
        DynamicImage::ImageLumaA16(image) => halved(image.width(), image.as_raw(), [0; 3], 2),
        other => other.into_rgb8(),
    })
}

/// As [`read_rgb`], then to luminance (ITU-R 601-2): masks.
///
/// # Errors
/// As [`read_rgb`].
pub fn read_grey(field: &'static str, bytes: &[u8]) -> Result<GrayImage, EngineError> {
    let image = read_rgb(field, bytes)?;
    Ok(GrayImage::from_fn(image.width(), image.height(), |x, y| {
        let [r, g, b] = image.get_pixel(x, y).0.map(u32::from);
        ::image::Luma([((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8])
    }))
}

/// The upper bytes of the channels at `picked`.
fn halved(width: u32, values: &[u16], picked: [usize; 3], channels: usize) -> RgbImage {
    let pixels: Vec<[u8; 3]> = values
        .chunks_exact(channels)
        .map(|pixel| picked.map(|at| (pixel[at] >> 8) as u8))
        .collect();
    let height = pixels.len() as u32 / width.max(1);
    RgbImage::from_fn(width, height, |x, y| {
        ::image::Rgb(pixels[(y * width + x) as usize])
    })
}

fn decode(bytes: &[u8]) -> Result<DynamicImage, String> {
    const KINDS: &str = "give a PNG, JPEG or WebP file";
    if bytes.is_empty() {
        return Err(format!("is empty; {KINDS}"));
    }
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| format!("cannot be read: {error}"))?;
    match reader.format() {
        Some(ImageFormat::Png | ImageFormat::WebP) => {}
        Some(ImageFormat::Jpeg) => {
            // The decoder fills up what is missing with grey.
            if !jpeg_is_whole(bytes) {
                return Err("is cut off: the JPEG has no end; copy it again".into());
            }
        }
        _ => return Err(format!("is no image that can be read; {KINDS}")),
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_PIXELS * 12);
    reader.limits(limits);
    let damaged = |error: ::image::ImageError| match error {
        ::image::ImageError::Limits(_) => too_large(None),
        other => format!("is damaged or cut off ({other}); copy it again"),
    };
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err("has no pixels".into());
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(too_large(Some((width, height))));
    }
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn too_large(size: Option<(u32, u32)>) -> String {
    let what = size.map_or("is too large".into(), |(width, height)| {
        format!("is {width}×{height}, which is too large")
    });
    format!(
        "{what}; at most {} million pixels and {MAX_SIDE} a side are read",
        MAX_PIXELS / 1_000_000
    )
}

/// Whether the markers of a JPEG lead to its end (ITU-T T.81, annex B).
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    let mut scanning = false;
    while let Some(rest) = bytes.get(at..) {
        let Some(&[mark, code]) = rest.first_chunk() else {
            return false;
        };
        match (mark, code) {
            (0xff, 0xd9) => return true,
            // Fill bytes; escaped 0xff and restarts among the data of a scan.
            (0xff, 0xff) => at += 1,
            (0xff, 0x00 | 0x01 | 0xd0..=0xd8) => at += 2,
            (0xff, _) => {
                let Some(&[high, low]) = rest.get(2..).and_then(<[u8]>::first_chunk) else {
                    return false;
                };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
                scanning = code == 0xda;
            }
            _ if scanning => at += 1,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).expect("written");
        bytes.into_inner()
    }

    fn gradient() -> RgbImage {
        RgbImage::from_fn(24, 17, |x, y| {
            ::image::Rgb([(x * 10) as u8, (y * 15) as u8, ((x * y) % 256) as u8])
        })
    }

    #[test]
    fn png_and_webp_come_back_exactly_and_jpeg_nearly() {
        let image = gradient();
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Jpeg] {
            let bytes = written(&image.clone().into(), format);
            let read = read_rgb("init_image", &bytes).expect("readable");
            assert_eq!(read.dimensions(), (24, 17));
            if format != ImageFormat::Jpeg {
                assert_eq!(read, image);
            }
        }
    }

    #[test]
    fn alpha_is_left_out_and_sixteen_bits_are_halved() {
        let clear = ::image::RgbaImage::from_pixel(2, 1, ::image::Rgba([9, 8, 7, 0]));
        let bytes = written(&clear.into(), ImageFormat::Png);
        let read = read_rgb("init_image", &bytes).expect("readable");
        assert_eq!(read.as_raw(), &[9, 8, 7, 9, 8, 7]);
        let deep =
            ::image::ImageBuffer::from_pixel(1, 1, ::image::Rgb([0x12ff_u16, 0xff80, 0x0080]));
        let bytes = written(&DynamicImage::ImageRgb16(deep), ImageFormat::Png);
        let read = read_rgb("init_image", &bytes).expect("readable");
        assert_eq!(read.as_raw(), &[0x12, 0xff, 0]);
        let grey = read_grey("mask", &written(&gradient().into(), ImageFormat::Png));
        assert_eq!(grey.expect("readable").get_pixel(0, 0).0, [0]);
    }

    #[test]
    fn files_cut_off_anywhere_and_foreign_ones_are_refused_in_one_line() {
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Jpeg] {
            let bytes = written(&gradient().into(), format);
            for kept in [0, 1, 3, 8, 20, bytes.len() / 2, bytes.len() * 3 / 4] {
                let error = read_rgb("init_image", &bytes[..kept])
                    .map(|image| image.dimensions())
                    .expect_err("cut off")
                    .to_string();
                assert_eq!(error.lines().count(), 1, "{error}");
                assert!(error.starts_with("init_image: "), "{error}");
            }
        }
        for foreign in [
            &b"hello, world"[..],
            b"GIF89a\x01\x00\x01\x00",
            b"BM0000000000",
        ] {
            let error = read_rgb("mask", foreign).expect_err("no image").to_string();
            assert!(error.contains("PNG, JPEG or WebP"), "{error}");
        }
    }

    #[test]
    fn a_header_that_promises_too_much_is_refused_before_memory_is_taken() {
        // The header chunk of a PNG of 60 000 by 60 000 pixels, with its checksum.
        let mut bytes = written(&gradient().into(), ImageFormat::Png);
        bytes[16..20].copy_from_slice(&30_000u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&30_000u32.to_be_bytes());
        let crc = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = read_rgb("init_image", &bytes)
            .expect_err("huge")
            .to_string();
        assert!(error.contains("64 million pixels"), "{error}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                if crc & 1 == 1 {
                    crc >> 1 ^ 0xedb8_8320
                } else {
                    crc >> 1
                }
            })
        })
    }
}
