//! A job whose device fails it goes down the ladder: in this process where that can be trusted, else
//! in another one's hands.

use super::Worker;
use super::desk::{Current, Stop, lock};
use super::loading::{Made, Unmade};
use crate::db::now_ms;
use crate::devices::trial::{self, Kind};
use crate::jobs::ladder::{self, Fault, Footing};
use crate::jobs::protocol::News;
use crate::jobs::queue::Claim;
use atelier_app::studio::{Descent, Rung};
use std::sync::Arc;
use std::time::Instant;

impl Worker {
    /// Makes a job's image; where the device fails it, again one rung lower.
    pub(super) async fn make_on_the_ladder(
        &mut self,
        claim: &mut Claim,
        current: &Arc<Current>,
        began: Instant,
    ) -> Result<Made, Unmade> {
        loop {
            if !self.device.is_cuda() {
                // What GPUs were let off is nothing to the processor.
                return self.make(claim, current, self.way, began).await;
            }
            let footing = Footing::of(self.way, &self.formats, &claim.rungs);
            let made = self.make(claim, current, footing.way, began).await;
            let (fault, words) = match made {
                Ok(made) if is_blank(&made) => (
                    Fault::WrongNumbers,
                    "every pixel of the image came out alike".to_owned(),
                ),
                Err(Unmade::Faulty(fault)) => (fault.kind.into(), in_words(&fault)),
                Err(Unmade::Stalled { during }) => {
                    (Fault::Died, format!("no progress any more while {during}"))
                }
                Err(Unmade::Panicked(words)) => {
                    (Fault::Kernel, format!("the engine panicked: {words}"))
                }
                other => return other,
            };
            let rung = self.rung(footing.next(fault, &self.formats), words);
            self.go_down(claim, current, fault, rung).await?;
        }
    }

    fn rung(&self, descent: Descent, fault: String) -> Rung {
        Rung {
            at: now_ms(),
            device: self.device.to_string(),
            fault,
            done: ladder::words(&descent),
            descent,
        }
    }

    /// Writes a rung down; `Ok` where the job stays in these hands.
    async fn go_down(
        &mut self,
        claim: &mut Claim,
        current: &Current,
        fault: Fault,
        rung: Rung,
    ) -> Result<(), Unmade> {
        let leaves = rung.descent == Descent::Leave;
        let replaced = !fault.spares_process();
        tracing::warn!(
            job = claim.id.0,
            device = rung.device,
            fault = rung.fault,
            done = rung.done,
            "the device failed a job, which goes on one rung lower"
        );
        // Whatever is in the device's memory is in the way of the next try.
        self.loaded = None;
        let written = if leaves || replaced {
            self.insist(|| self.queue.hand_over(claim, &rung)).await
        } else {
            self.insist(|| self.queue.descend(claim, &rung)).await
        };
        (self.say)(&News::Rung {
            job: claim.id.clone(),
            rung: rung.clone(),
            counts: leaves || replaced,
            replaced,
        });
        match written {
            Ok(true) => {}
            // Somebody else has the job, or the database is gone and the lease runs out.
            Ok(false) | Err(_) => current.stop(Stop::Lost),
        }
        if leaves || replaced {
            return Err(Unmade::HandedOver {
                spares_process: !replaced,
            });
        }
        claim.rungs.push(rung);
        match current.stopped() {
            Some(_) => Err(Unmade::Stopped),
            None => Ok(()),
        }
    }

    /// Why an image was not made on a GPU, or not as usual there.
    pub(super) fn fallback_reason(&self, claim: &Claim) -> Option<String> {
        let left = claim
            .rungs
            .iter()
            .rfind(|rung| rung.descent == Descent::Leave && rung.device != self.device.to_string());
        match left {
            Some(rung) => Some(format!(
                "{} failed at this image: {}",
                rung.device, rung.fault
            )),
            None => lock(&self.desk.fallback_reason).clone(),
        }
    }
}

/// "out of memory while decoding the image: CUDA_ERROR_OUT_OF_MEMORY, out of memory".
fn in_words(fault: &trial::Fault) -> String {
    let kind = match fault.kind {
        Kind::OutOfMemory => "out of memory",
        Kind::NoKernel => "no usable kernel",
        Kind::WrongNumbers => "wrong numbers",
        Kind::Lost => "the device is lost",
        Kind::Other => "it failed",
    };
    // Words of the engine's own say where it was.
    let during = if fault.during.is_empty() || fault.words.contains(&fault.during) {
        String::new()
    } else {
        format!(" while {}", fault.during)
    };
    format!("{kind}{during}: {}", fault.words)
}

/// Whether a device gave one colour for an image: SDXL never does, kernels that did not run do.
fn is_blank(made: &Made) -> bool {
    let mut pixels = made.generation.image.pixels();
    let first = pixels.next();
    made.generation.image.width() > 1 && pixels.all(|pixel| Some(pixel) == first)
}
