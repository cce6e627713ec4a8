//! Which steps of which model a request runs: the arithmetic of diffusers' `get_timesteps` and
//! `denoising_end`.

use std::ops::Range;

use super::{Expert, Pipeline};
use crate::schedulers::Scheduler;
use crate::{EngineError, GenerateRequest, Refine};

/// One model's share of the denoising.
pub(super) struct Stage<'a> {
    /// The model.
    pub expert: Expert<'a>,
    /// Its schedule.
    pub scheduler: Box<dyn Scheduler>,
    /// The schedule's name.
    pub scheduler_name: String,
    /// Which of the schedule's steps are run; may be empty where a hand-off leaves nothing.
    pub steps: Range<usize>,
    /// What the latents are when it begins.
    pub start: Start,
    num_train_timesteps: usize,
}

/// What a stage's latents are made of when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Pure noise.
    Noise,
    /// The latents at hand, with as much noise as the first step expects.
    Noised,
    /// The latents at hand as they are: their noise is what the stage before left.
    Handed,
}

/// Sets out the stages of a request: the base, and the refiner where it is asked for.
///
/// # Errors
/// [`EngineError::InvalidRequest`] if the strength leaves no step.
pub(super) fn stages<'a>(
    pipeline: &'a Pipeline,
    request: &GenerateRequest,
) -> Result<Vec<Stage<'a>>, EngineError> {
    let mut stages = Vec::with_capacity(2);
    let masked = request
        .input
        .as_ref()
        .is_some_and(|input| input.mask.is_some());

    // 1. The base: from noise or from the image, to the end or to the hand-off.
    let mut base = stage(pipeline.base(), request)?;
    if let Some(input) = &request.input {
        base.start_at_strength(input.strength, masked, request, "strength")?;
    }
    if let Some(Refine::Ensemble { denoising_split }) = request.refine {
        let kept = base.count(|t, cutoff| t >= cutoff, denoising_split);
        base.steps.end = base.steps.start + kept;
    }
    stages.push(base);

    // 2. The refiner: from the hand-off, or from the base's finished latents noised again.
    if let Some(refine) = request.refine {
        let expert = pipeline
            .refiner_expert()
            .ok_or_else(|| EngineError::invalid("refiner", "is asked for, but none is loaded"))?;
        let mut refiner = stage(expert, request)?;
        match refine {
            Refine::Ensemble { denoising_split } => {
                let mut kept = refiner.count(|t, cutoff| t < cutoff, denoising_split);
                // Second-order schedulers list each timestep but the first twice: an even number
                // would begin in the middle of a step.
                if refiner.scheduler.order() == 2 && kept % 2 == 0 {
                    kept += 1;
                }
                refiner.steps.start = refiner.steps.end.saturating_sub(kept);
                refiner.start = Start::Handed;
            }
            Refine::ImageToImage { strength } => {
                refiner.start_at_strength(strength, masked, request, "refiner_strength")?;
            }
        }
        stages.push(refiner);
    }
    for stage in &mut stages {
        stage.scheduler.set_begin_index(stage.steps.start);
    }
    Ok(stages)
}

/// A stage of all steps, from noise.
fn stage<'a>(expert: Expert<'a>, request: &GenerateRequest) -> Result<Stage<'a>, EngineError> {
    let config = expert.folder.scheduler_for(request)?;
    let scheduler = config.schedule(request.num_inference_steps as usize)?;
    let count = scheduler.timesteps().len();
    Ok(Stage {
        expert,
        scheduler,
        scheduler_name: config.name(),
        num_train_timesteps: config.num_train_timesteps,
        steps: 0..count,
        start: Start::Noise,
    })
}

impl Stage<'_> {
    /// Number of the stage's timesteps on one side of a share of the schedule.
    fn count(&self, keep: impl Fn(f64, f64) -> bool, share: f64) -> usize {
        let cutoff = cutoff(share, self.num_train_timesteps);
        self.scheduler.timesteps()[self.steps.clone()]
            .iter()
            .filter(|&&timestep| keep(f64::from(timestep), cutoff))
            .count()
    }

    /// Leaves out the steps that an image of this strength skips.
    fn start_at_strength(
        &mut self,
        strength: f64,
        masked: bool,
        request: &GenerateRequest,
        field: &'static str,
    ) -> Result<(), EngineError> {
        let steps = request.num_inference_steps;
        self.steps.start = skipped_steps(steps, strength) * self.scheduler.order();
        if self.steps.is_empty() {
            return Err(EngineError::invalid(
                field,
                format!(
                    "is {strength}: of {steps} steps that leaves none to run; raise it to {:.3} or more, or take more steps",
                    1.0 / f64::from(steps)
                ),
            ));
        }
        // As diffusers: inpainting at full strength forgets the image where it paints.
        self.start = if masked && strength == 1.0 {
            Start::Noise
        } else {
            Start::Noised
        };
        Ok(())
    }
}

/// The training timestep at which a share of the schedule is over.
fn cutoff(share: f64, num_train_timesteps: usize) -> f64 {
    let train = num_train_timesteps as f64;
    (train - share * train).round_ties_even()
}

/// Steps that image-to-image leaves out at the beginning.
fn skipped_steps(steps: u32, strength: f64) -> usize {
    let run = (f64::from(steps) * strength) as u32;
    (steps - run.min(steps)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutoffs_are_rounded_half_to_even() {
        assert_eq!(cutoff(0.8, 1000), 200.0);
        assert_eq!(cutoff(0.33, 1000), 670.0);
        assert_eq!(cutoff(0.0005, 1000), 1000.0);
        assert_eq!(cutoff(0.9985, 1000), 2.0);
        assert_eq!(cutoff(0.9975, 1000), 2.0);
    }

    #[test]
    fn strength_is_a_share_of_the_steps_cut_to_a_whole_number() {
        assert_eq!(skipped_steps(20, 0.3), 14);
        assert_eq!(skipped_steps(50, 0.9999), 1);
        assert_eq!(skipped_steps(50, 1.0), 0);
        // 0.29 · 100 is a little below 29 in binary: Python says 28 as well.
        assert_eq!(skipped_steps(100, 0.29), 72);
        assert_eq!(skipped_steps(3, 0.3), 3);
    }
}
