//! A Brownian path that can be asked for any increment and always gives the same: the dyadic tree
//! of Li et al. (arXiv:2001.01328, §4), with the numbers that `torchsde.BrownianInterval` draws for
//! the same entropy (`halfway_tree`, tolerance 10⁻⁶, pool of 24 words).
//!
//! The path over the whole interval is drawn once. A node of the tree splits at its middle: given
//! its increment, that of its left half is normal, and the right half has the rest. Each split has
//! a seed of its own, from numpy's `SeedSequence` and the node's place in the tree.

use crate::rng::TorchGenerator;

/// Words in the pool that entropy is hashed into.
const POOL: usize = 24;

/// A path over an interval of times, of as many independent components as a sample has elements.
pub struct BrownianTree {
    start: f64,
    end: f64,
    entropy: u64,
    /// The increment over the whole interval.
    whole: Vec<f32>,
}

/// A node of the tree on the way down.
struct Node {
    start: f64,
    end: f64,
    key: u64,
    depth: u64,
    increment: Vec<f32>,
}

impl BrownianTree {
    /// A path of `size` components from `start` to `end`.
    pub fn new(start: f64, end: f64, size: usize, entropy: u64) -> Self {
        let seed = generate_state(entropy, None);
        let scale = (end - start).sqrt() as f32;
        let whole = randn(seed, size).into_iter().map(|n| n * scale).collect();
        Self {
            start: rounded(start),
            end: rounded(end),
            entropy,
            whole,
        }
    }

    /// The path's increment from `from` to `to`; times outside the interval count as its ends.
    pub fn increment(&self, from: f64, to: f64) -> Vec<f32> {
        let within = |time: f64| rounded(time.clamp(self.start, self.end));
        let (from, to) = (within(from), within(to));
        let mut sum = Vec::new();
        if from < to {
            let root = Node {
                start: self.start,
                end: self.end,
                key: 0,
                depth: 0,
                increment: self.whole.clone(),
            };
            self.collect(root, from, to, &mut sum);
        }
        if sum.is_empty() {
            sum.resize(self.whole.len(), 0.0);
        }
        sum
    }

    /// Adds the increments of the fewest nodes that make up `from` to `to`, left to right.
    fn collect(&self, node: Node, from: f64, to: f64, sum: &mut Vec<f32>) {
        if from == node.start && to == node.end {
            if sum.is_empty() {
                *sum = node.increment;
            } else {
                for (sum, increment) in sum.iter_mut().zip(&node.increment) {
                    *sum += increment;
                }
            }
            return;
        }
        let middle = rounded(0.5 * (node.end + node.start));
        // Times are multiples of the tolerance: nothing shorter than that is ever asked for.
        if middle <= node.start || middle >= node.end {
            return;
        }
        let (left, right) = (middle - node.start, node.end - middle);
        let whole = 1.0 / (node.end - node.start);
        let spread = (left * right * whole).sqrt() as f32;
        let (left, whole) = (left as f32, whole as f32);
        let seed = generate_state(self.entropy, Some([node.key, node.depth]));
        let noise = randn(seed, self.whole.len());
        let left_increment = node
            .increment
            .iter()
            .zip(noise)
            .map(|(increment, noise)| left * increment * whole + spread * noise)
            .collect::<Vec<f32>>();
        let child = |start, end, key, increment| Node {
            start,
            end,
            key: 2 * node.key + key,
            depth: node.depth + 1,
            increment,
        };
        let right_increment = |left: &[f32]| -> Vec<f32> {
            let pairs = node.increment.iter().zip(left);
            pairs.map(|(whole, left)| whole - left).collect()
        };
        if to <= middle {
            self.collect(child(node.start, middle, 0, left_increment), from, to, sum);
        } else if from >= middle {
            let increment = right_increment(&left_increment);
            self.collect(child(middle, node.end, 1, increment), from, to, sum);
        } else {
            let increment = right_increment(&left_increment);
            let right = child(middle, node.end, 1, increment);
            self.collect(
                child(node.start, middle, 0, left_increment),
                from,
                middle,
                sum,
            );
            self.collect(right, middle, to, sum);
        }
    }
}

/// To six decimals, as Python rounds: by the exact decimal value, ties to even.
fn rounded(time: f64) -> f64 {
    format!("{time:.6}").parse().unwrap_or(time)
}

fn randn(seed: u32, count: usize) -> Vec<f32> {
    TorchGenerator::new(u64::from(seed)).randn(count)
}

/// 32-bit words of a number, lowest first, at least one: as numpy takes a Python integer.
fn words(number: u64) -> impl Iterator<Item = u32> {
    let high = (number >> 32) as u32;
    [number as u32]
        .into_iter()
        .chain((high != 0).then_some(high))
}

/// The first word of `numpy.random.SeedSequence(entropy, spawn_key=…, pool_size=24)`'s state
/// (O'Neill's `seed_seq` with a better hash).
fn generate_state(entropy: u64, spawn_key: Option<[u64; 2]>) -> u32 {
    const INIT_A: u32 = 0x43b0_d7e5;
    const MULT_A: u32 = 0x931e_8875;
    const INIT_B: u32 = 0x8b51_f9dd;
    const MULT_B: u32 = 0x58f3_8ded;
    const MIX_LEFT: u32 = 0xca01_f9dd;
    const MIX_RIGHT: u32 = 0x4973_f715;
    const SHIFT: u32 = 16;

    let mut source: Vec<u32> = words(entropy).collect();
    if let Some(key) = spawn_key {
        // A key must not be taken for more entropy.
        source.resize(POOL, 0);
        source.extend(key.into_iter().flat_map(words));
    }
    let mut constant = INIT_A;
    let mut hash = |value: u32| -> u32 {
        let value = value ^ constant;
        constant = constant.wrapping_mul(MULT_A);
        let value = value.wrapping_mul(constant);
        value ^ (value >> SHIFT)
    };
    let mix = |x: u32, y: u32| -> u32 {
        let mixed = MIX_LEFT
            .wrapping_mul(x)
            .wrapping_sub(MIX_RIGHT.wrapping_mul(y));
        mixed ^ (mixed >> SHIFT)
    };
    let mut pool = [0u32; POOL];
    for (i, slot) in pool.iter_mut().enumerate() {
        *slot = hash(source.get(i).copied().unwrap_or(0));
    }
    for from in 0..POOL {
        for to in 0..POOL {
            if from != to {
                pool[to] = mix(pool[to], hash(pool[from]));
            }
        }
    }
    for &word in source.iter().skip(POOL) {
        for slot in &mut pool {
            *slot = mix(*slot, hash(word));
        }
    }
    let value = (pool[0] ^ INIT_B).wrapping_mul(INIT_B.wrapping_mul(MULT_B));
    value ^ (value >> SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_increment_is_the_sum_of_its_parts() {
        let tree = BrownianTree::new(0.03, 14.6, 20, 7);
        let whole = tree.increment(1.25, 9.75);
        let parts = [(1.25, 2.0), (2.0, 7.123_456), (7.123_456, 9.75)];
        let mut sum = vec![0.0; 20];
        for (from, to) in parts {
            for (sum, part) in sum.iter_mut().zip(tree.increment(from, to)) {
                *sum += part;
            }
        }
        for (whole, sum) in whole.iter().zip(&sum) {
            assert!((whole - sum).abs() < 1e-5, "{whole} and {sum}");
        }
        assert_eq!(tree.increment(3.0, 3.0), vec![0.0; 20]);
        assert_eq!(tree.increment(-5.0, 50.0), tree.whole);
    }

    #[test]
    fn python_rounds_ties_to_even() {
        // Exactly representable ties: 0.0000005 is not one, 2⁻⁷ · 10⁻⁰ = 0.0078125 is at 7 digits.
        assert_eq!(rounded(0.007_812_5), 0.007_812);
        assert_eq!(rounded(0.023_437_5), 0.023_438);
    }
}
