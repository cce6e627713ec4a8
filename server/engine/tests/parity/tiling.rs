//! The VAE in tiles against diffusers' tiled decode.

use atelier_engine::vae::Tiles;

use crate::fixtures::{Numbers, load, model, relative_error};

/// Largest difference, of the largest value: the same rounding as in a whole decode, times the
/// fades.
const TOLERANCE: f32 = 2e-5;
/// Side of the recorded tiles, in latent pixels.
const SIDE: usize = 8;

#[test]
fn tiles_are_decoded_as_diffusers_does() {
    let numbers = Numbers::read("tiling.safetensors");
    let pipeline = load(&model("tiny-base"));
    let vae = pipeline.vae();
    let latents = numbers.tensor("latents");
    assert!(Tiles::to_decode(SIDE, vae.config()).divide(13, 9));

    let tiled = vae
        .decode_scaled_in_tiles(latents, Some(SIDE))
        .expect("decoded");
    let error = relative_error("tiled", &tiled, numbers.tensor("decoded"));
    assert!(error <= TOLERANCE, "{error}");

    // Tiles see less than the whole: a decoder that ignored them would be noticed.
    let whole = vae.decode_scaled(latents).expect("decoded");
    let difference = relative_error("whole", &whole, numbers.tensor("decoded"));
    assert!(difference > 100.0 * TOLERANCE, "{difference}");
}
