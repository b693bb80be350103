//! Changed inputs, the same ones for the same seed.

use crate::targets::Shape;

/// Longest input that is made, in bytes: long enough for several messages or documents.
pub const MOST: usize = 4096;
/// Most changes to one input.
const CHANGES: u64 = 6;
/// Numbers at the edges of what fields hold, and lengths that lie.
const EDGES: [u32; 14] = [0, 1, 2, 3, 4, 7, 8, 15, 16, 0x7f, 0xff, 0x7fff, 0xffff, u32::MAX];

/// Makes inputs out of others.
#[derive(Debug)]
pub struct Mutator {
    state: u64,
    shape: Shape,
}

impl Mutator {
    /// For inputs of a shape; equal seeds make equal inputs.
    pub fn new(shape: Shape, seed: u64) -> Self {
        Self { state: seed ^ 0x9e37_79b9_7f4a_7c15, shape }
    }

    /// The next number of SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`; 0 if there is none.
    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    /// Puts a changed one of `corpus` into `input`.
    pub fn make(&mut self, corpus: &[Vec<u8>], input: &mut Vec<u8>) {
        let pick = self.below(corpus.len());
        input.clear();
        input.extend(corpus.get(pick).into_iter().flatten().take(MOST));
        for _ in 0..=self.next() % CHANGES {
            self.change(corpus, input);
        }
        input.truncate(MOST);
        // Mostly right, because what has a wrong length is refused at once.
        if self.shape == Shape::Messages && !self.next().is_multiple_of(8) {
            mend(input);
        }
    }

    fn change(&mut self, corpus: &[Vec<u8>], input: &mut Vec<u8>) {
        let at = self.below(input.len());
        let until = at + self.below(input.len() - at.min(input.len())).min(64);
        let value = self.next() as u8;
        match self.below(if matches!(self.shape, Shape::Text(_)) { 12 } else { 9 }) {
            0 => set(input, at, |byte| byte ^ 1 << (value & 7)),
            1 => set(input, at, |_| value),
            2 => {
                let edge = EDGES.get(self.below(EDGES.len())).copied().unwrap_or_default().to_be_bytes();
                let width = [1, 2, 4].get(self.below(3)).copied().unwrap_or(1);
                for (offset, byte) in edge.iter().skip(4 - width).enumerate() {
                    set(input, at + offset, |_| *byte);
                }
            }
            3 => input.insert(at, value),
            4 => drop(input.drain(at..until)),
            5 => {
                let copy = input.get(at..until).unwrap_or_default().to_vec();
                let to = self.below(input.len());
                input.splice(to..to, copy);
            }
            6 => {
                let other = corpus.get(self.below(corpus.len())).map_or(&[][..], Vec::as_slice);
                let from = self.below(other.len());
                let length = self.below(other.len() - from);
                input.splice(at..until, other.iter().skip(from).take(length).copied());
            }
            7 => input.truncate(at),
            8 => {
                let copy = input.get(at..until).unwrap_or_default().to_vec();
                for (offset, byte) in copy.iter().enumerate() {
                    set(input, at + offset, |_| byte.wrapping_add(1));
                }
            }
            _ => {
                let Shape::Text(words) = self.shape else { return };
                let word = words.get(self.below(words.len())).copied().unwrap_or_default();
                let end = if value & 1 == 0 { at } else { until };
                input.splice(at..end, word.bytes());
            }
        }
    }
}

fn set(input: &mut [u8], at: usize, value: impl FnOnce(u8) -> u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte = value(*byte);
    }
}

/// Makes the first header's length that of the whole input, and its version OpenFlow 1.3's.
fn mend(input: &mut [u8]) {
    let length = u16::try_from(input.len()).unwrap_or(u16::MAX).to_be_bytes();
    if let Some([version, _, high, low]) = input.first_chunk_mut() {
        (*version, *high, *low) = (4, length[0], length[1]);
    }
}
