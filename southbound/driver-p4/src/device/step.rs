//! Carrying out a step: one phase after another, each in batches, which may come to the device in any order.

use super::{End, Session};
use crate::plan::{Move, foresee, moves, removals};
use bulkhead_p4runtime::{
    client::{Batch, MAX_BATCH, batches},
    proto::p4::v1::{Update, write_request::Atomicity},
};
use bulkhead_pipeline::Delta;
use tokio::task::JoinSet;

/// Most batches of a phase that are under way at once: while the device has one the next is made and brought there. More gain
/// nothing, since devices carry out one write after another.
const UNDER_WAY: usize = 2;

/// A phase of which the device refused something.
struct Half {
    /// What was made of it.
    done: Vec<Move>,
    /// Why no more.
    why: String,
}

impl Session {
    /// Carries out a step, or says why not and leaves all as it was.
    pub(super) async fn apply<'a>(
        &mut self,
        delta: &'a Delta,
        ahead: impl Iterator<Item = &'a Delta>,
    ) -> Result<Result<(), String>, End> {
        if let Err(refused) = foresee(&self.have, std::iter::once(delta).chain(ahead), &self.info, &self.places) {
            return Ok(Err(refused.to_string()));
        }
        let phases = match moves(&self.have, delta, &self.places) {
            Ok(phases) => phases,
            Err(refused) => return Ok(Err(refused.to_string())),
        };
        let aliens: Vec<Update> = removals(&std::mem::take(&mut self.aliens)).collect();
        for batch in batches(aliens) {
            // Whether they were still there is all the same.
            self.write(batch).await?;
        }
        let mut done: Vec<Vec<Move>> = Vec::new();
        for phase in phases {
            match self.carry_out(&phase).await? {
                Ok(()) => done.push(phase),
                Err(half) => {
                    done.push(half.done);
                    self.undo(done).await?;
                    return Ok(Err(half.why));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Makes moves in any order, until something is refused.
    async fn carry_out(&mut self, moves: &[Move]) -> Result<Result<(), Half>, End> {
        let batches: Vec<&[Move]> = moves.chunks(MAX_BATCH).collect();
        let mut coming = batches.iter().enumerate();
        let mut under_way = JoinSet::new();
        let (mut made, mut refused) = (Vec::new(), None);
        loop {
            while refused.is_none()
                && under_way.len() < UNDER_WAY
                && let Some((at, moves)) = coming.next()
            {
                let (client, batch) = (self.client.clone(), self.batch(moves)?);
                under_way.spawn(async move { (at, client.send(batch).await) });
            }
            let Some(answered) = under_way.join_next().await else { break };
            let (at, results) = answered.map_err(|error| End::Device(error.to_string()))?;
            let moves = batches.get(at).copied().unwrap_or_default();
            for (one, result) in moves.iter().zip(results?) {
                match result {
                    Ok(()) => {
                        one.apply(&mut self.have);
                        made.push(one);
                    }
                    Err(error) => refused = refused.or(Some(error.why)),
                }
            }
        }
        let done = || made.into_iter().cloned().collect();
        let half = |why| Half { done: done(), why: format!("the device refused an entry: {why}") };
        Ok(refused.map_or(Ok(()), |why| Err(half(why))))
    }

    fn batch(&self, moves: &[Move]) -> Result<Batch, End> {
        let updates = moves.iter().map(|one| one.update(&self.places)).collect::<Result<_, _>>();
        let updates = updates.map_err(|error| End::Device(error.to_string()))?;
        Ok(self.client.batch(&self.info, updates, Atomicity::ContinueOnError)?)
    }

    /// Takes back what was done, the last phase first. A device that does not let us is read anew.
    async fn undo(&mut self, done: Vec<Vec<Move>>) -> Result<(), End> {
        for phase in done.into_iter().rev() {
            let back: Vec<Move> = phase.into_iter().map(Move::back).collect();
            if let Err(Half { why, .. }) = self.carry_out(&back).await? {
                return Err(End::Device(format!("half a step could not be taken back: {why}")));
            }
        }
        Ok(())
    }
}
