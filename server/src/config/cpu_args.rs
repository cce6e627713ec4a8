//! Options about how the CPU computes: the same for serving, one image and measuring.

use clap::{Args, ValueEnum};

use crate::devices::{CpuMemory, CpuNumbers, OnCpu};

/// How the CPU holds weights and multiplies by them. Whatever is not the default changes pictures a
/// little or takes time, so nothing is ever chosen that was not asked for.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct CpuArgs {
    /// Weights of the UNet on the CPU: as stored, or rounded to int8, in half the memory of f16 [default: stored].
    #[arg(long, env = "ATELIER_WEIGHTS", value_enum, value_name = "FORMAT")]
    pub weights: Option<WeightsArg>,
    /// Arithmetic of the UNet on the CPU: f32, or int8 in its linear layers (w8a8), faster and less exact [default: f32].
    #[arg(long, env = "ATELIER_COMPUTE", value_enum, value_name = "ARITHMETIC")]
    pub compute: Option<ComputeArg>,
    /// Memory for weights on the CPU: low reads them layer by layer, auto does where too little is free [default: auto].
    #[arg(long, env = "ATELIER_MEMORY", value_enum, value_name = "AMOUNT")]
    pub memory: Option<CpuMemory>,
    /// The most that is used of the CPU's instructions, for measuring [default: all there are].
    #[arg(long, env = "ATELIER_ISA", value_enum, value_name = "ISA")]
    pub isa: Option<IsaArg>,
}

/// `--weights`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WeightsArg {
    /// As their file has them.
    Stored,
    /// Whole numbers of eight bits, a scale for each output.
    Int8,
}

/// `--compute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ComputeArg {
    /// 32 bits.
    F32,
    /// Eight bits for weights and for what linear layers take.
    W8a8,
}

/// `--isa`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IsaArg {
    /// What every machine has.
    Portable,
    /// 256-bit vectors.
    Avx2,
    /// 512-bit vectors.
    Avx512,
    /// Tile registers.
    Amx,
}

impl CpuArgs {
    /// What they ask for.
    ///
    /// # Errors
    /// One line, if two of them contradict each other.
    pub fn on_cpu(&self) -> Result<OnCpu, String> {
        let numbers = match (self.weights, self.compute) {
            (Some(WeightsArg::Stored), Some(ComputeArg::W8a8)) => {
                return Err("--compute w8a8 needs weights in int8; leave --weights out".into());
            }
            (_, Some(ComputeArg::W8a8)) => CpuNumbers::W8a8,
            (Some(WeightsArg::Int8), _) => CpuNumbers::Int8Weights,
            _ => CpuNumbers::Full,
        };
        let memory = self.memory.unwrap_or_default();
        if numbers != CpuNumbers::Full && memory == CpuMemory::Low {
            return Err(
                "--memory low reads weights layer by layer, but weights in int8 stay in memory; leave one of the two out"
                    .into(),
            );
        }
        Ok(OnCpu { numbers, memory })
    }

    /// The same as words of a command line, for a worker.
    pub fn words(on_cpu: OnCpu, isa: Option<IsaArg>) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        let (weights, compute) = match on_cpu.numbers {
            CpuNumbers::Full => ("stored", "f32"),
            CpuNumbers::Int8Weights => ("int8", "f32"),
            CpuNumbers::W8a8 => ("int8", "w8a8"),
        };
        add("--weights", weights.into());
        add("--compute", compute.into());
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.map(|value| value.get_name().to_owned())
        };
        if let Some(memory) = name(on_cpu.memory.to_possible_value()) {
            add("--memory", memory);
        }
        if let Some(isa) = isa.and_then(|isa| name(isa.to_possible_value())) {
            add("--isa", isa);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        cpu: CpuArgs,
    }

    fn read(words: &[&str]) -> CpuArgs {
        Line::try_parse_from([&["atelier"], words].concat())
            .expect("valid")
            .cpu
    }

    #[test]
    fn what_a_worker_is_told_is_what_was_asked_for() {
        for words in [
            &[][..],
            &["--weights", "int8"],
            &["--compute", "w8a8"],
            &["--memory", "low"],
            &["--compute", "f32", "--memory", "full", "--isa", "avx2"],
        ] {
            let asked = read(words);
            let on_cpu = asked.on_cpu().expect("nothing contradicts");
            let told = CpuArgs::words(on_cpu, asked.isa);
            let told: Vec<&str> = told.iter().map(String::as_str).collect();
            let heard = read(&told);
            assert_eq!(heard.on_cpu(), Ok(on_cpu), "{words:?}");
            assert_eq!(heard.isa, asked.isa);
        }
    }

    #[test]
    fn contradictions_are_one_line() {
        for words in [
            &["--weights", "stored", "--compute", "w8a8"][..],
            &["--weights", "int8", "--memory", "low"],
            &["--compute", "w8a8", "--memory", "low"],
        ] {
            let line = read(words).on_cpu().expect_err("contradicts");
            assert!(line.starts_with("--") && !line.contains('\n'), "{line}");
        }
    }
}
