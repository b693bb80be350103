//! Digests on their way to the controller (P4Runtime §9.8): gathered into lists, and the same not sent again before it is
//! acknowledged or forgotten. Time is an argument: since any beginning.

use bulkhead_p4runtime::proto::p4::v1::{DigestList, DigestListAck, P4Data, digest_entry::Config};
use prost::Message as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Most digests that are remembered as sent, and most in a list where the controller does not say: what is more is
/// forgotten, or sent at once.
const MAX_KEPT: usize = 4096;

/// All digests of a device.
#[derive(Debug, Default)]
pub struct Digests {
    gathered: BTreeMap<u32, Gathered>,
    sent: BTreeMap<(u32, u64), Sent>,
    lists: u64,
}

#[derive(Debug)]
struct Gathered {
    data: Vec<P4Data>,
    known: BTreeSet<Vec<u8>>,
    due: Duration,
}

#[derive(Debug)]
struct Sent {
    data: BTreeSet<Vec<u8>>,
    forgotten: Duration,
}

impl Digests {
    /// The data plane tells something; returns a list if that is to be sent now.
    pub fn told(&mut self, digest: u32, data: P4Data, config: &Config, now: Duration) -> Option<DigestList> {
        self.sent.retain(|_, sent| sent.forgotten > now);
        let bytes = data.encode_to_vec();
        let known = |(_, sent): (&(u32, u64), &Sent)| sent.data.contains(&bytes);
        let gathered = self.gathered.get(&digest);
        if self.sent.range((digest, 0)..=(digest, u64::MAX)).any(known)
            || gathered.is_some_and(|gathered| gathered.known.contains(&bytes))
        {
            return None;
        }
        let due = now + nanoseconds(config.max_timeout_ns);
        let empty = || Gathered { data: Vec::new(), known: BTreeSet::new(), due };
        let gathered = self.gathered.entry(digest).or_insert_with(empty);
        gathered.known.insert(bytes);
        gathered.data.push(data);
        let most = usize::try_from(config.max_list_size).ok().filter(|most| *most > 0).unwrap_or(MAX_KEPT);
        let full = gathered.data.len() >= most.min(MAX_KEPT) || config.max_timeout_ns <= 0;
        if full { self.list(digest, config, now) } else { None }
    }

    /// Lists that have waited long enough.
    pub fn due(&mut self, now: Duration, config: impl Fn(u32) -> Option<Config>) -> Vec<DigestList> {
        let due: Vec<_> =
            self.gathered.iter().filter(|(_, gathered)| gathered.due <= now).map(|(digest, _)| *digest).collect();
        let list = |digest: u32| match config(digest) {
            Some(config) => self.list(digest, &config, now),
            // It is not wanted any more.
            None => {
                self.gathered.remove(&digest);
                None
            }
        };
        due.into_iter().filter_map(list).collect()
    }

    /// When [`Self::due`] has something next.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.gathered.values().map(|gathered| gathered.due).min()
    }

    /// The controller has a list.
    pub fn acknowledged(&mut self, ack: &DigestListAck) {
        self.sent.remove(&(ack.digest_id, ack.list_id));
    }

    /// There is another controller, or another program: nothing was sent to it.
    pub fn forget(&mut self) {
        self.sent.clear();
        self.gathered.clear();
    }

    fn list(&mut self, digest: u32, config: &Config, now: Duration) -> Option<DigestList> {
        let Gathered { data, known, .. } = self.gathered.remove(&digest)?;
        self.lists += 1;
        if config.ack_timeout_ns > 0 {
            let sent = Sent { data: known, forgotten: now + nanoseconds(config.ack_timeout_ns) };
            self.sent.insert((digest, self.lists), sent);
            while self.sent.values().map(|sent| sent.data.len()).sum::<usize>() > MAX_KEPT {
                self.sent.pop_first();
            }
        }
        let timestamp = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        Some(DigestList { digest_id: digest, list_id: self.lists, data, timestamp })
    }
}

fn nanoseconds(count: i64) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_p4runtime::proto::p4::v1::p4_data::Data;

    const SECOND: i64 = 1_000_000_000;

    fn data(byte: u8) -> P4Data {
        P4Data { data: Some(Data::Bitstring(vec![byte])) }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_list_goes_when_it_is_full_or_has_waited() {
        let config = Config { max_timeout_ns: 2 * SECOND, max_list_size: 2, ack_timeout_ns: 0 };
        let mut digests = Digests::default();
        assert_eq!(digests.told(7, data(1), &config, at(0)), None);
        assert_eq!(digests.told(7, data(1), &config, at(0)), None, "the same is there once");
        let list = digests.told(7, data(2), &config, at(1)).unwrap();
        assert_eq!((list.digest_id, list.data), (7, vec![data(1), data(2)]));
        assert_eq!(digests.told(7, data(1), &config, at(1)), None);
        assert_eq!(digests.next_due(), Some(at(3)));
        assert_eq!(digests.due(at(2), |_| Some(config)), []);
        assert_eq!(digests.due(at(3), |_| Some(config))[0].data, [data(1)]);
        assert_eq!(digests.next_due(), None);
    }

    #[test]
    fn the_same_is_not_sent_again_before_it_is_acknowledged_or_forgotten() {
        let config = Config { max_timeout_ns: 0, max_list_size: 1, ack_timeout_ns: 5 * SECOND };
        let mut digests = Digests::default();
        let list = digests.told(7, data(1), &config, at(0)).unwrap();
        assert_eq!(digests.told(7, data(1), &config, at(1)), None);
        digests.acknowledged(&DigestListAck { digest_id: 7, list_id: list.list_id });
        assert!(digests.told(7, data(1), &config, at(1)).is_some());
        assert_eq!(digests.told(7, data(1), &config, at(5)), None);
        assert!(digests.told(7, data(1), &config, at(6)).is_some());
        digests.forget();
        assert!(digests.told(7, data(1), &config, at(6)).is_some());
    }

    #[test]
    fn what_is_kept_has_an_end() {
        let config = Config { max_timeout_ns: SECOND, max_list_size: 0, ack_timeout_ns: SECOND };
        let mut digests = Digests::default();
        for number in 0..3 * MAX_KEPT as u32 {
            let data = P4Data { data: Some(Data::Bitstring(number.to_be_bytes().to_vec())) };
            digests.told(7, data, &config, at(0));
        }
        assert!(digests.sent.values().map(|sent| sent.data.len()).sum::<usize>() <= MAX_KEPT);
        assert!(digests.gathered.values().all(|gathered| gathered.data.len() <= MAX_KEPT));
    }
}
