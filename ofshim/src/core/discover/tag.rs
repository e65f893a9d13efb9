//! SipHash-2-4 (Aumasson and Bernstein, 2012): the keyed check value of discovery frames.

/// A secret of 128 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

/// The check value of `message` under `secret`.
#[must_use]
pub fn tag(secret: Secret, message: &[u8]) -> u64 {
    let [k0, k1] = halves(secret);
    let mut state = State([
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ]);
    let (words, rest) = message.as_chunks::<8>();
    for word in words {
        state.absorb(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let length = (message.len() as u64) << 56;
    state.absorb(u64::from_le_bytes(last) | length);
    state.finish()
}

fn halves(Secret(bytes): Secret) -> [u64; 2] {
    let all = u128::from_le_bytes(bytes);
    [all as u64, (all >> 64) as u64]
}

struct State([u64; 4]);

impl State {
    fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.rounds(2);
        self.0[0] ^= word;
    }

    fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        self.rounds(4);
        self.0.iter().fold(0, |all, part| all ^ part)
    }

    fn rounds(&mut self, count: usize) {
        let [mut v0, mut v1, mut v2, mut v3] = self.0;
        for _ in 0..count {
            v0 = v0.wrapping_add(v1);
            v1 = v1.rotate_left(13) ^ v0;
            v0 = v0.rotate_left(32);
            v2 = v2.wrapping_add(v3);
            v3 = v3.rotate_left(16) ^ v2;
            v0 = v0.wrapping_add(v3);
            v3 = v3.rotate_left(21) ^ v0;
            v2 = v2.wrapping_add(v1);
            v1 = v1.rotate_left(17) ^ v2;
            v2 = v2.rotate_left(32);
        }
        self.0 = [v0, v1, v2, v3];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_its_authors() {
        let secret = Secret(std::array::from_fn(|at| at as u8));
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(tag(secret, &message), 0xa129_ca61_49be_45e5);
        assert_eq!(tag(secret, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(tag(secret, &[0]), 0x74f8_39c5_93dc_67fd);
        assert_eq!(tag(secret, &message[..8]), 0x93f5_f579_9a93_2462);
    }
}
