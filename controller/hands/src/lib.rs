//! The cores of this machine, for one large piece of work: what pure crates are given as `topology::Hands`, and for two that
//! have nothing to do with each other.

use std::{
    num::NonZero,
    panic::resume_unwind,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Most threads that help: more would wait for memory.
const MAX_HELPERS: usize = 15;

/// Calls `part` with every number below `parts`, each once, from as many threads as there are cores, the caller's among
/// them. They are begun for this call alone: no work waits for another's.
pub fn all_cores(parts: usize, part: &(dyn Fn(usize) + Sync)) {
    let next = AtomicUsize::new(0);
    let some = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= parts {
                break;
            }
            part(at);
        }
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get).min(parts);
    thread::scope(|scope| {
        // Where one cannot be begun it takes longer, and that is all.
        let helpers: Vec<_> = (1..cores)
            .take(MAX_HELPERS)
            .filter_map(|_| thread::Builder::new().name("bulkhead-hands".into()).spawn_scoped(scope, some).ok())
            .collect();
        some();
        for helper in helpers {
            helper.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
}

/// Does `here`, and `aside` meanwhile on a thread of its own, or afterwards where none can be begun.
pub fn beside<R>(aside: impl FnOnce() + Send, here: impl FnOnce() -> R) -> R {
    let aside = Mutex::new(Some(aside));
    let once = || {
        let aside = aside.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(aside) = aside {
            aside();
        }
    };
    thread::scope(|scope| {
        let helper = thread::Builder::new().name("bulkhead-hands".into()).spawn_scoped(scope, once);
        let done = here();
        match helper {
            Ok(helper) => helper.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => once(),
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_once() {
        for parts in [0, 1, 2, 1_000] {
            let done: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
            all_cores(parts, &|at| _ = done[at].fetch_add(1, Ordering::Relaxed));
            assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{parts}");
        }
    }

    #[test]
    fn both_are_done() {
        let mut aside = 0;
        let here = beside(|| aside = 1, || 2);
        assert_eq!((aside, here), (1, 2));
    }

    #[test]
    #[should_panic(expected = "aside")]
    fn a_panic_aside_is_the_callers_too() {
        beside(|| panic!("aside"), || ());
    }

    #[test]
    #[should_panic(expected = "part 7")]
    fn a_panic_is_the_callers_too() {
        all_cores(20, &|at| assert!(at != 7, "part {at}"));
    }
}
