//! Links by which anybody may look at one image: for a time, until they are revoked.

pub(super) mod store; // rows

use atelier_app::account::{LOOKS_ONLY, Role, Viewer};
use atelier_app::backend::Answer;
use atelier_app::error::AppError;
use atelier_app::gallery::{ImageId, MAX_SHARE_DAYS, NewShareLink, ShareLink, SharedImage};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::store::for_others;
use super::{GalleryService, ImageHash, blocking};
use crate::db::now_ms;
use crate::error::ServerError;

/// Most links of one user that are open at once.
const MOST: u32 = 1000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A shared image's file.
#[derive(Clone, Debug)]
pub struct SharedFile {
    /// The PNG, without what it says about itself unless that is shared too.
    pub bytes: Vec<u8>,
    /// What a download of it is called.
    pub name: String,
}

impl GalleryService {
    pub(super) async fn make_link(
        &self,
        viewer: &Viewer,
        id: &ImageId,
        days: u32,
        with_settings: bool,
    ) -> Answer<NewShareLink> {
        if viewer.role == Role::Viewer {
            return Err(AppError::refused(LOOKS_ONLY));
        }
        if days == 0 || days > MAX_SHARE_DAYS {
            return Err(AppError::invalid(
                "days",
                format!("A link may last 1 to {MAX_SHARE_DAYS} days."),
            ));
        }
        let now = now_ms();
        if store::count(&self.db, viewer, now).await? >= MOST {
            return Err(AppError::TooMany {
                message: format!("You have {MOST} open links, which is the limit. Revoke some."),
                retry_after_s: 3600,
            });
        }
        // 256 random bits need no slow hash.
        let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let link = ShareLink {
            id: uuid::Uuid::now_v7().to_string(),
            with_settings,
            created_at: now,
            expires_at: now + i64::from(days) * DAY_MS,
        };
        if !store::insert(&self.db, viewer, id, &link, &hash_of(&secret)).await? {
            return Err(AppError::NotFound);
        }
        Ok(NewShareLink {
            path: format!("/s/{secret}"),
            link,
        })
    }

    pub(super) async fn open_link(&self, secret: &str) -> Answer<SharedImage> {
        let row = store::find(&self.db, &hash_of(secret), now_ms())
            .await?
            .ok_or(AppError::NotFound)?;
        Ok(SharedImage {
            width: row.width,
            height: row.height,
            dominant_colour: row.dominant_colour.clone(),
            expires_at: row.expires_at,
            settings: row
                .with_settings
                .then(|| row.settings().map(for_others))
                .transpose()?,
        })
    }

    /// The file behind a link.
    ///
    /// # Errors
    /// [`AppError::NotFound`] for a link that was never made, is revoked or over, or whose image is
    /// deleted: all the same.
    pub async fn shared_file(&self, secret: &str) -> Answer<SharedFile> {
        let row = store::find(&self.db, &hash_of(secret), now_ms())
            .await?
            .ok_or(AppError::NotFound)?;
        let hash: ImageHash = row
            .sha256
            .parse()
            .map_err(|error| ServerError::broken(format!("a shared image: {error}")))?;
        let files = self.files.clone();
        let bytes = blocking(move || files.get(&hash))
            .await?
            .map_err(ServerError::from)?;
        Ok(if row.with_settings {
            SharedFile {
                name: super::zip::file_name(&row.settings()?),
                bytes,
            }
        } else {
            SharedFile {
                name: "image.png".into(),
                bytes: without_text(&bytes),
            }
        })
    }
}

fn hash_of(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// A PNG without its text, times and other chunks that no picture needs. What is no PNG to its end
/// is cut where it stops being one.
fn without_text(bytes: &[u8]) -> Vec<u8> {
    const SIGNATURE: usize = 8;
    // Without what says how its numbers are meant, the picture would have other colours.
    const NEEDED: [&[u8; 4]; 10] = [
        b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"sRGB", b"gAMA", b"cHRM", b"iCCP", b"cICP",
    ];
    let mut kept = bytes.get(..SIGNATURE).unwrap_or(bytes).to_vec();
    let mut at = SIGNATURE;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let end = at.saturating_add(length).saturating_add(12);
        let Some(chunk) = bytes.get(at..end) else {
            break;
        };
        if NEEDED.iter().any(|kind| head[4..] == kind[..]) {
            kept.extend_from_slice(chunk);
        }
        at = end;
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gallery::Facts;
    use crate::gallery::metadata::{ATELIER, PARAMETERS, read_png_text, write_png};
    use atelier_app::studio::Settings;

    #[test]
    fn a_file_without_its_text_is_the_same_picture() {
        let image = image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8, y as u8, 3]));
        let settings = Settings {
            prompt: "a secret".into(),
            ..Settings::default()
        };
        let whole = write_png(&image, &settings, &Facts::default()).unwrap();
        let text = |bytes: &[u8]| read_png_text(bytes, &[PARAMETERS, ATELIER]).unwrap().len();
        assert_eq!(text(&whole), 2);
        let bare = without_text(&whole);
        assert_eq!(text(&bare), 0);
        assert!(!bare.windows(8).any(|window| window == b"a secret"));
        assert_eq!(image::load_from_memory(&bare).unwrap().into_rgb8(), image);
        // A chunk for colours stays where it is: behind the 25 bytes of the header.
        for kind in [b"iCCP", b"cICP", b"tEXt"] {
            let mut coloured = whole[..33].to_vec();
            coloured.extend_from_slice(&4_u32.to_be_bytes());
            coloured.extend_from_slice(kind);
            coloured.extend_from_slice(&[1, 2, 3, 4, 0, 0, 0, 0]);
            coloured.extend_from_slice(&whole[33..]);
            let stays = without_text(&coloured)
                .windows(4)
                .any(|window| window == kind);
            assert_eq!(stays, kind != b"tEXt");
        }
        for cut in [0, 4, 8, 20, whole.len() - 3] {
            without_text(&whole[..cut]);
        }
        without_text(&[0xff; 64]);
    }
}
