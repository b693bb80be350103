//! The stream of a device: arbitration, packets, digests.

use super::{CALL_TIME, Client};
use crate::{
    arbitration::{Arbitration, ElectionId, Standing},
    check,
    error::{Error, cut},
    info::Info,
    proto::p4::v1::{
        DigestList, DigestListAck, IdleTimeoutNotification, PacketIn, PacketOut, StreamMessageRequest,
        StreamMessageResponse, stream_message_request as request, stream_message_response as response,
    },
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

/// Most messages that wait to be sent. What a controller sends is rare: answers to packets that switches could not answer
/// themselves, and acknowledgements; a device that takes none for so many is in trouble.
const OUT_QUEUE: usize = 256;

/// What a device tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// This controller is something else now.
    Standing(Standing),
    /// A packet.
    Packet(PacketIn),
    /// Digests, to be acknowledged with [`Stream::acknowledge`].
    Digest(DigestList),
    /// Entries that were not hit for as long as they say.
    Idle(IdleTimeoutNotification),
    /// Something that was sent on the stream was wrong.
    Wrong {
        /// In which way.
        code: Code,
        /// The device's reason, cut to a printable length.
        why: String,
    },
}

/// The stream. When it is dropped, the device has one controller less.
#[derive(Debug)]
pub struct Stream {
    out: mpsc::Sender<StreamMessageRequest>,
    from: Streaming<StreamMessageResponse>,
    arbitration: Arbitration,
    address: String,
    device: u64,
}

impl Stream {
    /// Opens it, stands for primary, and awaits what the device says of that.
    pub(super) async fn open(client: &Client, arbitration: Arbitration) -> Result<Self, Error> {
        const WHAT: &str = "StreamChannel";
        let (out, queue) = mpsc::channel(OUT_QUEUE);
        let (address, device) = (client.address.clone(), client.device);
        // Before the call: many devices do not answer it before the first message.
        let claim = message(request::Update::Arbitration(arbitration.claim()));
        out.try_send(claim).map_err(|_| client.nonsense("the stream's queue is closed".to_owned()))?;
        let mut calls = client.calls.clone();
        let from = client.call(WHAT, CALL_TIME, calls.stream_channel(ReceiverStream::new(queue))).await?;
        let mut stream = Self { out, from, arbitration, address, device };
        let answered = timeout(CALL_TIME, async {
            // What else comes before is for nobody: a device tells it to its primary.
            while stream.standing() == Standing::Unknown {
                stream.next().await?;
            }
            Ok::<(), Error>(())
        });
        answered.await.map_err(|_| client.timed_out(WHAT, CALL_TIME))??;
        Ok(stream)
    }

    /// What this controller is to the device.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.arbitration.standing()
    }

    /// Awaits what the device tells next. May be dropped before it is done; nothing is lost then.
    ///
    /// # Errors
    /// The stream is over: the connection broke, the device ended it, or it said what it may not.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            let told = match self.from.message().await {
                Ok(Some(told)) => told,
                Ok(None) => return Err(Error::Closed { address: self.address.clone(), device: self.device }),
                Err(status) => {
                    return Err(Error::Call {
                        address: self.address.clone(),
                        device: self.device,
                        what: "StreamChannel",
                        code: status.code(),
                        why: cut(status.message()),
                    });
                }
            };
            match told.update {
                Some(response::Update::Arbitration(update)) => match self.arbitration.received(&update) {
                    Ok(Some(standing)) => return Ok(Event::Standing(standing)),
                    Ok(None) => {}
                    Err(wrong) => {
                        let (address, device) = (self.address.clone(), self.device);
                        return Err(Error::Arbitration { address, device, wrong });
                    }
                },
                Some(response::Update::Packet(packet)) => return Ok(Event::Packet(packet)),
                Some(response::Update::Digest(digest)) => return Ok(Event::Digest(digest)),
                Some(response::Update::IdleTimeoutNotification(idle)) => return Ok(Event::Idle(idle)),
                Some(response::Update::Error(error)) => {
                    let code = Code::from_i32(error.canonical_code);
                    return Ok(Event::Wrong { code, why: cut(&error.message) });
                }
                // Of a later version, or a vendor's own.
                Some(response::Update::Other(_)) | None => {}
            }
        }
    }

    /// Stands with another election id. What this controller is does not change before the device says so.
    ///
    /// # Errors
    /// Too much waits to be sent.
    pub(super) fn stand_again(&mut self, election: ElectionId) -> Result<(), Error> {
        let mut arbitration = self.arbitration.clone();
        let claim = arbitration.stand_again(election);
        self.send(request::Update::Arbitration(claim))?;
        self.arbitration = arbitration;
        Ok(())
    }

    /// Has the device send a packet.
    ///
    /// # Errors
    /// Its metadata is not what the program says, or too much waits to be sent.
    pub fn send_packet(&self, info: &Info, packet: PacketOut) -> Result<(), Error> {
        check::packet(info.packet_out(), &packet.metadata).map_err(|refusal| Error::Refused { at: 0, refusal })?;
        self.send(request::Update::Packet(packet))
    }

    /// Tells the device that a list of digests has come.
    ///
    /// # Errors
    /// Too much waits to be sent.
    pub fn acknowledge(&self, list: &DigestList) -> Result<(), Error> {
        self.send(request::Update::DigestAck(DigestListAck { digest_id: list.digest_id, list_id: list.list_id }))
    }

    fn send(&self, update: request::Update) -> Result<(), Error> {
        let (address, device) = (self.address.clone(), self.device);
        self.out.try_send(message(update)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Busy { address, device, waiting: OUT_QUEUE },
            mpsc::error::TrySendError::Closed(_) => Error::Closed { address, device },
        })
    }
}

fn message(update: request::Update) -> StreamMessageRequest {
    StreamMessageRequest { update: Some(update) }
}
