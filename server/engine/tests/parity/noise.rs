//! Noise: `torch.randn` on a CPU, bit for bit.

use atelier_engine::rng::TorchGenerator;

use crate::fixtures::Numbers;

fn compare(name: &str, got: &[f32], want: &[f32], count: &mut usize) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(
            got.to_bits(),
            want.to_bits(),
            "{name}: number {at} is {got}, not {want}"
        );
    }
    *count += want.len();
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
    let mut count = 0;
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
                compare(name, &got, &numbers.values(name), &mut count);
            }
        }
        let mut generator = TorchGenerator::new(seed);
        for index in 0..7 {
            let name = format!("{seed}/sequence/{index}");
            let want = numbers.values(&name);
            compare(&name, &generator.randn(want.len()), &want, &mut count);
        }
    }
    let shaped = numbers.values("shape");
    let got = TorchGenerator::new(42).randn(shaped.len());
    compare("shape", &got, &shaped, &mut count);
    println!("noise: {count} numbers, every bit torch's");
}
