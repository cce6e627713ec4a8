//! Noise: `torch.randn` on a CPU, bit for bit where torch computes in f64, and within the last
//! places where its vector instructions approximate logarithm and sine.

use atelier_engine::rng::TorchGenerator;

use crate::fixtures::Numbers;

/// torch's 16-element path uses approximations good to about this many units of the last place;
/// which of them depends on the processor it runs on.
const ULPS: u32 = 4;

/// Steps between two floats of the same sign; near zero, where steps are tiny, 1e-7 counts as one.
fn ulps(got: f32, want: f32) -> u32 {
    if (got - want).abs() < 1e-7 {
        return u32::from(got != want);
    }
    let ordered = |value: f32| {
        let bits = value.to_bits() as i32;
        if bits < 0 { i32::MIN - bits } else { bits }
    };
    ordered(got).abs_diff(ordered(want))
}

fn compare(name: &str, got: &[f32], want: &[f32], tally: &mut [usize; 3]) {
    assert_eq!(got.len(), want.len(), "{name}");
    let worst = got
        .iter()
        .zip(want)
        .map(|(&got, &want)| ulps(got, want))
        .max()
        .unwrap_or(0);
    let allowed = if want.len() < 16 { 0 } else { ULPS };
    assert!(worst <= allowed, "{name}: {worst} units of the last place");
    tally[0] += want.len();
    tally[1] += got
        .iter()
        .zip(want)
        .filter(|(g, w)| g.to_bits() != w.to_bits())
        .count();
    tally[2] = tally[2].max(worst as usize);
}

#[test]
fn noise_is_torchs() {
    let numbers = Numbers::read("randn.safetensors");
    let mut seeds: Vec<u64> = numbers
        .names()
        .filter_map(|name| name.split_once('/')?.0.parse().ok())
        .collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert!(seeds.contains(&u64::MAX) && seeds.len() >= 7);
    let mut tally = [0; 3];
    for seed in seeds {
        for name in numbers
            .names()
            .filter(|name| name.starts_with(&format!("{seed}/")))
        {
            let Ok(length) = name.rsplit('/').next().unwrap_or_default().parse::<usize>() else {
                panic!("{name}");
            };
            if !name.contains("sequence") {
                let got = TorchGenerator::new(seed).randn(length);
                compare(name, &got, &numbers.values(name), &mut tally);
            }
        }
        let mut generator = TorchGenerator::new(seed);
        for index in 0..7 {
            let name = format!("{seed}/sequence/{index}");
            let want = numbers.values(&name);
            compare(&name, &generator.randn(want.len()), &want, &mut tally);
        }
    }
    let shaped = numbers.values("shape");
    let got = TorchGenerator::new(42).randn(shaped.len());
    compare("shape", &got, &shaped, &mut tally);
    println!(
        "noise: {} of {} numbers differ from torch's, at most {} units of the last place",
        tally[1], tally[0], tally[2]
    );
}
