//! Between loading and compiling: what is stored can be read, everything else waits, no switch is told anything.

use crate::common;
use bulkhead_dataplane::Address;
use bulkhead_runtime::{Drivers, Gone, LoadError, Loop, Recorder, Stored, channel, run};
use bulkhead_store::{Document, Loaded, MemoryStore};
use common::{SHOP, decode, name, set};
use std::{future::Future, pin::pin, task::Poll, time::Duration};
use tokio::sync::mpsc;

/// The shop, stored at revision 1, with these durable numbers.
fn shop(numbers: &[(&str, u32)]) -> MemoryStore {
    let mut loaded = Loaded { revision: 1, ..Loaded::default() };
    for text in SHOP {
        let key = bulkhead_policy::Change::set(decode(text).unwrap()).key.to_string();
        loaded.documents.insert(key, Document { text: (*text).into(), revision: 1 });
    }
    loaded.numbers.extend(numbers.iter().map(|(name, number)| ((*name).into(), *number)));
    MemoryStore::with(loaded)
}

async fn once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut *future).poll(context))).await
}

#[tokio::test]
async fn before_the_first_compile_the_state_is_read_and_changes_wait() {
    let (commands, mut told) = channel();
    let drivers = Drivers { channels: vec![commands], route: |_| Some((0, Address::Sim)), keeper: None, prober: None };
    let (_reports, reports) = mpsc::channel(1);
    let (_hosts, hosts) = mpsc::channel(1);
    let stored = Stored::load(Box::new(shop(&[])), decode).unwrap();
    let (the_loop, handle) = Loop::new(stored, drivers, reports, hosts, Recorder::off());

    assert!(!handle.is_compiled());
    assert!(handle.metrics().await.contains("\nbulkhead_compiled 0\n"));
    assert!(handle.read(|accepted| accepted.revision == 1 && accepted.state.workloads.contains_key(&name("web-1"))));
    let mut change = pin!(handle.apply(set(&["workload web-3 prod hv1 4 web"])));
    let mut realization = pin!(handle.realization(1, Duration::ZERO));
    assert!(once(&mut change).await.is_pending() && once(&mut realization).await.is_pending());
    tokio::task::yield_now().await;
    assert!(handle.switches().is_empty() && told.try_recv().is_err());

    let task = tokio::spawn(run(the_loop));
    assert_eq!(change.await.unwrap().unwrap().revision, 2);
    // Two switches that never connect have not realized it.
    assert!(!realization.await.unwrap().realized);
    assert!(handle.is_compiled() && handle.metrics().await.contains("\nbulkhead_compiled 1\n"));
    assert!(handle.switches().len() == 2 && told.recv().await.is_some());
    handle.stop().await;
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_cannot_be_compiled_ends_the_loop_before_any_switch_is_told() {
    let (commands, mut told) = channel();
    let drivers = Drivers { channels: vec![commands], route: |_| Some((0, Address::Sim)), keeper: None, prober: None };
    let (_reports, reports) = mpsc::channel(1);
    let (_hosts, hosts) = mpsc::channel(1);
    // No number is left for the policy's rule.
    let stored = Stored::load(Box::new(shop(&[("next/rule", 1 << 24)])), decode).unwrap();
    let (the_loop, handle) = Loop::new(stored, drivers, reports, hosts, Recorder::off());
    let mut change = pin!(handle.apply(set(&["workload web-3 prod hv1 4 web"])));
    assert!(once(&mut change).await.is_pending());
    let ended = run(the_loop).await;
    assert!(matches!(ended, Err(LoadError::TooLarge(_))), "{ended:?}");
    assert_eq!(change.await, Err(Gone));
    assert!(!handle.is_compiled() && handle.read(|accepted| accepted.revision) == 1);
    assert!(told.recv().await.is_none(), "the channel closes, and nothing was in it");
}
