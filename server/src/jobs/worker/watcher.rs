//! From the engine's progress to news and heartbeats.

use super::Say;
use super::desk::{Current, Stop};
use crate::config::Lease;
use crate::db::now_ms;
use crate::jobs::protocol::News;
use crate::jobs::queue::{Claim, Pulse, Queue};
use atelier_engine::{Control, Phase, Progress};
use base64::Engine as _;
use image::RgbImage;
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Keeps the claim alive, writes progress down, and hears of cancellations that the pipe lost.
pub(super) async fn beat(queue: Queue, claim: Claim, current: Arc<Current>, lease: Lease) {
    let mut last_good = now_ms();
    loop {
        let phase = current.phase();
        match queue
            .heartbeat(&claim, &phase.words, phase.step, lease.length())
            .await
        {
            Ok(Pulse::Mine) => last_good = now_ms(),
            Ok(Pulse::Cancel) => {
                last_good = now_ms();
                current.stop(Stop::Cancelled);
            }
            Ok(Pulse::Lost) => {
                current.stop(Stop::Lost);
                return;
            }
            Err(error) => {
                let silent_s = (now_ms() - last_good) / 1000;
                tracing::warn!(%error, silent_s, "a heartbeat was not written");
            }
        }
        tokio::time::sleep(lease.heartbeat()).await;
    }
}

/// Turns the engine's progress into news.
pub(super) struct Watcher {
    pub current: Arc<Current>,
    pub say: Say,
}

impl Watcher {
    /// The model is there: from now on the engine looks for stops itself.
    pub fn loading_done(&self) {
        self.current.loading.store(false, Ordering::Release);
    }

    pub fn watch(&self, progress: &Progress<'_>, denoising_since: &mut Option<Instant>) -> Control {
        let phase = match progress.phase {
            Phase::TextEncoding => "encoding prompt",
            Phase::ImageEncoding => "encoding image",
            Phase::Denoising => "denoising",
            Phase::Decoding => "decoding",
        };
        let denoising_s = match progress.phase {
            Phase::TextEncoding | Phase::ImageEncoding => 0.0,
            Phase::Denoising | Phase::Decoding => denoising_since
                .get_or_insert_with(Instant::now)
                .elapsed()
                .as_secs_f64(),
        };
        self.tell(
            phase,
            progress.step,
            denoising_s,
            progress.preview.and_then(data_address),
        );
        if self.current.stopped().is_some() {
            Control::Cancel
        } else {
            Control::Continue
        }
    }

    pub fn tell(&self, phase: &str, step: u32, denoising_s: f64, preview: Option<String>) {
        self.current.set_phase(phase, step);
        (self.say)(&News::Progress {
            job: self.current.job.clone(),
            phase: phase.into(),
            step,
            denoising_s,
            preview,
        });
    }
}

/// A small picture as a `data:` address. PNG: previews are tiny, and flat areas stay flat.
fn data_address(preview: &RgbImage) -> Option<String> {
    let mut bytes = Cursor::new(Vec::new());
    preview.write_to(&mut bytes, image::ImageFormat::Png).ok()?;
    Some(format!(
        "data:image/png;base64,{}",
        base64::engine::general_purpose::STANDARD.encode(bytes.into_inner())
    ))
}
