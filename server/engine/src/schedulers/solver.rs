//! What the solvers in the log ratio of signal to noise share: levels of noise, the weights of a
//! step's terms, the last predictions.

use super::config::{Algorithm, PredictionType, SchedulerConfig, SolverType};

// torch takes logarithms and exponentials of f32 from MKL, which nearly always rounds them
// correctly. Rust's are an ulp off more often, and these weights are differences of such numbers.

pub(super) fn ln(x: f32) -> f32 {
    f64::from(x).ln() as f32
}

pub(super) fn exp(x: f32) -> f32 {
    f64::from(x).exp() as f32
}

pub(super) fn exp_m1(x: f32) -> f32 {
    f64::from(x).exp_m1() as f32
}

/// Up to this many steps, the last ones are taken with a lower order for stability.
pub(super) const FEW_STEPS: usize = 15;

/// Signal, noise and half the log of their squared ratio at one σ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub alpha: f32,
    pub sigma: f32,
    pub lambda: f32,
}

impl Level {
    pub fn new(sigma: f32) -> Self {
        let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
        let sigma = sigma * alpha;
        Self {
            alpha,
            sigma,
            lambda: ln(alpha) - ln(sigma),
        }
    }

    /// The clean sample that `output` implies.
    pub fn original(&self, prediction: PredictionType, x: f32, output: f32) -> f32 {
        prediction.original(self.alpha, self.sigma, x, output)
    }

    /// The noise that `output` implies.
    pub fn noise(&self, prediction: PredictionType, x: f32, output: f32) -> f32 {
        prediction.noise(self.alpha, self.sigma, x, output)
    }
}

/// What the sample, the zeroth, first and second difference of the predictions, and fresh noise
/// are multiplied by in a DPM-Solver step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights {
    pub keep: f32,
    pub zeroth: f32,
    /// In a second-order step of `solver_type`.
    pub first: f32,
    /// In a third-order step, whatever the `solver_type`.
    pub first_of_three: f32,
    pub second: f32,
    pub noise: f32,
}

impl Weights {
    /// Of a step from one level to another (arXiv:2211.01095, appendix B; with noise, §6).
    pub fn of_step(algorithm: Algorithm, solver_type: SolverType, from: Level, to: Level) -> Self {
        let h = to.lambda - from.lambda;
        let heun = solver_type == SolverType::Heun;
        match algorithm {
            Algorithm::DpmSolverPlusPlus => {
                let decay = exp(-h) - 1.0;
                let first_of_three = to.alpha * (decay / h + 1.0);
                Self {
                    keep: to.sigma / from.sigma,
                    zeroth: -(to.alpha * decay),
                    first: if heun {
                        first_of_three
                    } else {
                        -(0.5 * (to.alpha * decay))
                    },
                    first_of_three,
                    second: -(to.alpha * ((decay + h) / (h * h) - 0.5)),
                    noise: 0.0,
                }
            }
            Algorithm::SdeDpmSolverPlusPlus => {
                let decay = 1.0 - exp(-2.0 * h);
                let first_of_three = to.alpha * (decay / (-2.0 * h) + 1.0);
                Self {
                    keep: to.sigma / from.sigma * exp(-h),
                    zeroth: to.alpha * decay,
                    first: if heun {
                        first_of_three
                    } else {
                        0.5 * (to.alpha * decay)
                    },
                    first_of_three,
                    second: to.alpha * ((decay - 2.0 * h) / (2.0 * h * (2.0 * h)) - 0.5),
                    noise: to.sigma * decay.sqrt(),
                }
            }
            Algorithm::DpmSolver => {
                let growth = exp(h) - 1.0;
                let first_of_three = -(to.sigma * (growth / h - 1.0));
                Self {
                    keep: to.alpha / from.alpha,
                    zeroth: -(to.sigma * growth),
                    first: if heun {
                        first_of_three
                    } else {
                        -(0.5 * (to.sigma * growth))
                    },
                    first_of_three,
                    second: -(to.sigma * ((growth - h) / (h * h) - 0.5)),
                    noise: 0.0,
                }
            }
            Algorithm::SdeDpmSolver => {
                let growth = exp(h) - 1.0;
                Self {
                    keep: to.alpha / from.alpha,
                    zeroth: -(2.0 * (to.sigma * growth)),
                    first: if heun {
                        -(2.0 * (to.sigma * (growth / h - 1.0)))
                    } else {
                        -(to.sigma * growth)
                    },
                    // There is no third-order step with this algorithm.
                    first_of_three: 0.0,
                    second: 0.0,
                    noise: to.sigma * (exp(2.0 * h) - 1.0).sqrt(),
                }
            }
        }
    }
}

/// The last predictions, oldest first, and the clean sample of the newest for previews.
pub(super) struct History {
    capacity: usize,
    outputs: Vec<Vec<f32>>,
    original: Vec<f32>,
}

impl History {
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            outputs: Vec::new(),
            original: Vec::new(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.outputs.len()
    }

    /// The newest at 0, the one before at 1.
    pub fn back(&self, age: usize) -> &[f32] {
        &self.outputs[self.outputs.len() - 1 - age]
    }

    /// Keeps what a solver integrates of a UNet's output: the clean sample or the noise.
    pub fn push(&mut self, integrated: Vec<f32>, original: Vec<f32>) {
        if self.outputs.len() == self.capacity {
            self.outputs.remove(0);
        }
        self.outputs.push(integrated);
        self.original = original;
    }

    /// Turns a UNet's output into what is integrated and keeps it.
    pub fn convert(
        &mut self,
        level: &Level,
        prediction: PredictionType,
        of_sample: bool,
        sample: &[f32],
        output: &[f32],
    ) {
        let pairs = || sample.iter().copied().zip(output.iter().copied());
        let original: Vec<f32> = pairs()
            .map(|(x, output)| level.original(prediction, x, output))
            .collect();
        let integrated = if of_sample {
            original.clone()
        } else {
            pairs()
                .map(|(x, output)| level.noise(prediction, x, output))
                .collect()
        };
        self.push(integrated, original);
    }

    /// The newest clean sample.
    pub fn original(&self) -> Option<&[f32]> {
        (!self.original.is_empty()).then_some(&self.original)
    }
}

/// The order of a multistep solver's step `index` of `count`, with `known` predictions kept.
pub(super) fn multistep_order(
    config: &SchedulerConfig,
    index: usize,
    count: usize,
    known: usize,
    ends_with_first_order: bool,
) -> usize {
    let few = config.lower_order_final && count < FEW_STEPS;
    let last = index + 1 == count && (few || ends_with_first_order);
    let last_but_one = index + 2 == count && few;
    if config.solver_order == 1 || known < 2 || last {
        1
    } else if config.solver_order == 2 || known < 3 || last_but_one {
        2
    } else {
        3
    }
}
