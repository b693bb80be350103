//! Who has a place, and what is kept in memory for him.
//!
//! A client that connects and says nothing, sends half of a body, or reads none of its answer, must not keep out one
//! that has something to say. There are places for [`MAX_CONNECTIONS`] and room for [`MAX_HELD`] bytes of bodies; when
//! either is used up, whoever has kept us waiting longest makes room.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::oneshot, time::Instant};
use tracing::debug;

/// Most connections at once, so that clients cannot use up the controller's file descriptors, which switches need: room for
/// a thousand who watch, and others.
const MAX_CONNECTIONS: usize = 1_536;
/// Most bytes of requests' and answers' bodies that wait for all clients together, whose memory they are: several of
/// the largest requests, or a list of some hundred thousand workloads. One answer that is larger is held alone.
const MAX_HELD: usize = 64 << 20;

/// What is kept in memory while a client sends it, or takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Matter {
    /// A request, by its guest's number and its own.
    Request(u64, u64),
    /// An answer, by its place in memory: several guests may be given the same one.
    Answer(usize),
}

#[derive(Debug, Clone, Copy)]
struct Held {
    matter: Matter,
    bytes: usize,
    since: Instant,
}

/// How one of a guest's requests is.
#[derive(Debug, Default)]
struct Doing {
    /// Whether it is being answered: it is the controller that is waited for.
    working: bool,
    held: Option<Held>,
}

/// Who has a place.
struct Guest {
    /// Its requests by their numbers; several at once over HTTP/2.
    doing: BTreeMap<u64, Doing>,
    last: u64,
    /// Since when it is that one of them is being answered, or that none is.
    since: Instant,
    evict: oneshot::Sender<()>,
}

impl Guest {
    fn working(&self) -> bool {
        self.doing.values().any(|doing| doing.working)
    }

    /// Changes something about its requests.
    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<u64, Doing>)) {
        let before = self.working();
        change(&mut self.doing);
        if self.working() != before {
            self.since = Instant::now();
        }
    }

    /// What is held for it and waits for it.
    fn waits_for(&self) -> impl Iterator<Item = Held> + '_ {
        self.doing.values().filter(|doing| !doing.working).filter_map(|doing| doing.held)
    }
}

#[derive(Default)]
struct Guests {
    last: u64,
    by_number: BTreeMap<u64, Guest>,
}

impl Guests {
    /// Ends a guest's connection.
    fn evict(&mut self, number: u64) {
        if let Some(guest) = self.by_number.remove(&number) {
            // It has just ended by itself.
            let _ = guest.evict.send(());
        }
    }

    /// Bytes that are held for all guests; what several of them share counts once.
    fn held(&self) -> usize {
        let held = self.by_number.values().flat_map(|guest| guest.doing.values()).filter_map(|doing| doing.held);
        let by_matter: BTreeMap<Matter, usize> = held.map(|held| (held.matter, held.bytes)).collect();
        by_matter.values().sum()
    }

    /// Makes those go who have kept us waiting longest with something in memory, `number` not among them, until the
    /// rest fits; whether it does.
    fn make_room(&mut self, number: u64) -> bool {
        while self.held() > MAX_HELD {
            let waiting = self.by_number.iter().filter(|(other, _)| **other != number);
            let since =
                waiting.filter_map(|(other, guest)| Some((guest.waits_for().map(|held| held.since).min()?, *other)));
            let Some((_, longest)) = since.min() else { return false };
            debug!("what it held in memory was too much");
            self.evict(longest);
        }
        true
    }
}

/// All places.
#[derive(Clone, Default)]
pub(crate) struct Places(Arc<Mutex<Guests>>);

impl Places {
    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection. It is the connection's until the receiver says that it was given away.
    pub(crate) fn take(&self) -> (Place, oneshot::Receiver<()>) {
        let mut guests = self.guests();
        if guests.by_number.len() >= MAX_CONNECTIONS {
            let longest = guests.by_number.iter().min_by_key(|(_, guest)| (guest.working(), guest.since));
            if let Some(longest) = longest.map(|(number, _)| *number) {
                guests.evict(longest);
            }
        }
        guests.last += 1;
        let number = guests.last;
        let (evict, evicted) = oneshot::channel();
        guests.by_number.insert(number, Guest { doing: BTreeMap::new(), last: 0, since: Instant::now(), evict });
        (Place { number, places: self.clone() }, evicted)
    }
}

/// A connection's place; free again when dropped.
pub(crate) struct Place {
    number: u64,
    places: Places,
}

impl Place {
    /// For one request.
    pub(crate) fn turn(self: &Arc<Self>) -> Turn {
        let mut turn = 0;
        // Who has been sent away has none.
        if let Some(guest) = self.places.guests().by_number.get_mut(&self.number) {
            guest.last += 1;
            turn = guest.last;
            guest.doing.insert(turn, Doing::default());
        }
        Turn { number: turn, place: self.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.guests().by_number.remove(&self.number);
    }
}

/// One request of a connection, until its answer has been taken.
pub(crate) struct Turn {
    number: u64,
    place: Arc<Place>,
}

impl Turn {
    fn set(&self, working: bool) {
        if let Some(guest) = self.place.places.guests().by_number.get_mut(&self.place.number) {
            guest.change(|doing| doing.entry(self.number).or_default().working = working);
        }
    }

    /// The request is there as a whole: from now on the client waits for us.
    pub(crate) fn work(&self) {
        self.set(true);
    }

    /// The answer is there: from now on we wait for the client.
    pub(crate) fn rest(&self) {
        self.set(false);
    }

    /// `bytes` of this request are in memory now. Says whether there is room for them.
    pub(crate) fn hold_request(&self, bytes: usize) -> bool {
        self.hold(Matter::Request(self.place.number, self.number), bytes)
    }

    /// This answer is in memory until [`Turn::release`].
    pub(crate) fn hold_answer(&self, answer: &[u8]) {
        // It is there already: if all others are at work, there is nobody to make room.
        if !self.hold(Matter::Answer(answer.as_ptr().addr()), answer.len()) {
            let mut guests = self.place.places.guests();
            let own = guests.by_number.get(&self.place.number).map(|guest| guest.waits_for().count());
            // One answer is held alone, however large; who asks for many at once and takes none has had his turn.
            if own > Some(1) {
                debug!("the answers that it did not take were too much");
                guests.evict(self.place.number);
            }
        }
    }

    fn hold(&self, matter: Matter, bytes: usize) -> bool {
        let mut guests = self.place.places.guests();
        // Who has been sent away holds nothing any more: its task is about to end.
        let Some(guest) = guests.by_number.get_mut(&self.place.number) else { return false };
        let doing = guest.doing.entry(self.number).or_default();
        let since = doing.held.filter(|held| held.matter == matter).map_or_else(Instant::now, |held| held.since);
        doing.held = Some(Held { matter, bytes, since });
        guests.make_room(self.place.number)
    }

    /// Nothing is held for it any more.
    pub(crate) fn release(&self) {
        if let Some(guest) = self.place.places.guests().by_number.get_mut(&self.place.number) {
            guest.doing.entry(self.number).or_default().held = None;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(guest) = self.place.places.guests().by_number.get_mut(&self.place.number) {
            guest.change(|doing| _ = doing.remove(&self.number));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::advance;

    /// A connection with one request.
    fn guest(places: &Places) -> (Turn, oneshot::Receiver<()>) {
        let (place, evicted) = places.take();
        (Arc::new(place).turn(), evicted)
    }

    fn gone(held: &mut [(Turn, oneshot::Receiver<()>)]) -> Vec<usize> {
        let gone = held.iter_mut().map(|(_, evicted)| evicted.try_recv().is_ok());
        gone.enumerate().filter(|(_, gone)| *gone).map(|(at, _)| at).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn r25_the_place_of_whoever_keeps_us_waiting_longest_is_given_away() {
        let places = Places::default();
        let mut held = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            advance(Duration::from_millis(1)).await;
            held.push(guest(&places));
        }
        // The first is being answered; the second has just been.
        held[0].0.work();
        held[1].0.work();
        advance(Duration::from_millis(1)).await;
        held[1].0.rest();
        let newcomers: Vec<_> = (0..3).map(|_| guest(&places)).collect();
        assert_eq!(gone(&mut held), [2, 3, 4]);
        assert_eq!(places.guests().by_number.len(), MAX_CONNECTIONS);
        drop((held, newcomers));
        assert!(places.guests().by_number.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn r25_whoever_holds_memory_longest_makes_room() {
        let places = Places::default();
        let mut held: Vec<_> = (0..5).map(|_| guest(&places)).collect();
        let quarter = MAX_HELD / 4;
        // 3 is the first that anything is held for, and 0 waits for us.
        for at in [3, 0, 1, 2] {
            advance(Duration::from_millis(1)).await;
            assert!(held[at].0.hold_request(quarter));
        }
        held[0].0.work();
        assert!(gone(&mut held).is_empty());
        // Going on with the same request does not make it younger.
        advance(Duration::from_millis(1)).await;
        assert!(held[3].0.hold_request(quarter));
        assert!(held[4].0.hold_request(1));
        assert_eq!(gone(&mut held), [3]);
        assert!(held[4].0.hold_request(quarter + 1));
        assert_eq!(gone(&mut held), [1]);
        held[4].0.release();
        assert_eq!(places.guests().held(), 2 * quarter);
        // Nobody is left but who waits for us: there is no room.
        assert!(!held[4].0.hold_request(MAX_HELD));
        assert_eq!(gone(&mut held), [2]);
        // And nobody is heard any more who was sent away.
        assert!(!held[3].0.hold_request(1));
    }

    #[tokio::test]
    async fn r25_an_answer_that_many_share_counts_once() {
        let places = Places::default();
        let mut held: Vec<_> = (0..100).map(|_| guest(&places)).collect();
        let answer = vec![0; MAX_HELD];
        held.iter().for_each(|(place, _)| place.hold_answer(&answer));
        assert!(gone(&mut held).is_empty());
        let other = vec![0; 1];
        held[7].0.hold_answer(&other);
        assert_eq!(gone(&mut held).len(), 99);
    }

    #[tokio::test(start_paused = true)]
    async fn a38_who_asks_for_many_answers_at_once_and_takes_none_is_sent_away() {
        let places = Places::default();
        let (place, mut evicted) = places.take();
        let place = Arc::new(place);
        let answers: Vec<Vec<u8>> = (0..3).map(|_| vec![0; MAX_HELD / 2]).collect();
        let turns: Vec<Turn> = answers.iter().map(|_| place.turn()).collect();
        turns[0].hold_answer(&answers[0]);
        turns[1].hold_answer(&answers[1]);
        assert!(evicted.try_recv().is_err());
        turns[2].hold_answer(&answers[2]);
        assert!(evicted.try_recv().is_ok());
        // One request that is being answered does not keep what others hold from being counted as waiting.
        let (place, mut evicted) = places.take();
        let place = Arc::new(place);
        let (waits, works) = (place.turn(), place.turn());
        works.work();
        waits.hold_answer(&answers[0]);
        let (other, _evicted) = guest(&places);
        assert!(other.hold_request(MAX_HELD));
        assert!(evicted.try_recv().is_ok());
    }
}
