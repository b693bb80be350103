//! Work in parts, for crates that start no threads themselves.

use std::sync::{Mutex, PoisonError};

/// Does the parts of a work: calls the function with every number below the first argument, each once, in any order and
/// perhaps at the same time, and returns when all calls have returned. Who uses a pure crate says by this how many cores
/// there are for it; what is made is the same whoever does it.
pub type Hands = fn(usize, &(dyn Fn(usize) + Sync));

/// One part after another.
pub fn alone(parts: usize, part: &(dyn Fn(usize) + Sync)) {
    (0..parts).for_each(part);
}

/// What `work` makes of each item, in their order.
pub fn each<I: Send, T: Send>(hands: Hands, items: Vec<I>, work: impl Fn(I) -> T + Sync) -> Vec<T> {
    let places: Vec<Mutex<(Option<I>, Option<T>)>> =
        items.into_iter().map(|item| Mutex::new((Some(item), None))).collect();
    hands(places.len(), &|at| {
        let Some(place) = places.get(at) else { return };
        // Nobody else has this place: there is no wait, and nothing half-done to be seen.
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(item) = place.0.take() {
            place.1 = Some(work(item));
        }
    });
    places.into_iter().filter_map(|place| place.into_inner().unwrap_or_else(PoisonError::into_inner).1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the last to the first, and each twice.
    fn odd(parts: usize, part: &(dyn Fn(usize) + Sync)) {
        (0..parts).rev().chain(0..parts).for_each(part);
    }

    #[test]
    fn results_are_in_the_order_of_the_items() {
        for hands in [alone, odd] {
            assert_eq!(each(hands, (0..100).collect(), |n: u32| n * n), (0..100).map(|n| n * n).collect::<Vec<_>>());
        }
    }
}
