//! Simulated switches on real TCP connections.

use super::Switch;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, interval_at, sleep},
};

/// Bytes read at once.
const READ: usize = 64 << 10;
/// First pause before connecting again; doubled by each further try that fails.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
/// Longest pause before connecting again: what Open vSwitch does with `max_backoff=1000`.
const AGAIN_LAST: Duration = Duration::from_secs(1);

/// A switch that a task drives and others look at.
pub type Shared = Arc<Mutex<Switch>>;

/// The switch, whatever became of others that held it.
pub fn look(switch: &Shared) -> MutexGuard<'_, Switch> {
    switch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Echo times of many switches: how many took at most so many microseconds, in powers of two and halves between.
#[derive(Debug, Default)]
pub struct Echoes {
    /// Asked.
    pub sent: AtomicU64,
    times: Mutex<Vec<u32>>,
}

impl Echoes {
    fn add(&self, took: Duration) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.times.lock().unwrap_or_else(PoisonError::into_inner).push(micros);
    }

    /// Microseconds that the answers took since the last call, sorted.
    pub fn take(&self) -> Vec<u32> {
        let mut times = std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner));
        times.sort_unstable();
        times
    }
}

/// What a switch does beside answering.
#[derive(Debug, Clone, Default)]
pub struct Habits {
    /// Asks the controller whether it is there, this often.
    pub echo: Option<Duration>,
    /// Ends its connection after this long and connects again.
    pub flap: Option<Duration>,
}

/// Keeps a switch connected to `controller` until the task is dropped.
pub async fn run(switch: Shared, controller: SocketAddr, habits: Habits, echoes: Arc<Echoes>) {
    let mut pause = AGAIN_FIRST;
    loop {
        let began = Instant::now();
        // Why a session ended is the controller's to say; here it is only begun again.
        let _ = session(&switch, controller, &habits, &echoes).await;
        pause = if began.elapsed() > AGAIN_LAST { AGAIN_FIRST } else { (pause * 2).min(AGAIN_LAST) };
        sleep(pause).await;
    }
}

/// One session, to its end.
pub async fn session(
    switch: &Shared,
    controller: SocketAddr,
    habits: &Habits,
    echoes: &Echoes,
) -> Result<(), std::io::Error> {
    let mut stream = TcpStream::connect(controller).await?;
    stream.set_nodelay(true)?;
    let began = Instant::now();
    let (mut reader, mut writer) = stream.split();
    let datapath = {
        let mut switch = look(switch);
        switch.connect();
        switch.datapath()
    };
    // Spread over the period, so that many switches do not ask at once.
    let period = habits.echo.unwrap_or(Duration::from_secs(3600));
    let first = period.mul_f64(f64::from((datapath.wrapping_mul(0x9e37_79b9) >> 16) as u16) / 65536.0);
    let mut asks = interval_at(began + first, period);
    let mut buffer = vec![0; READ];
    loop {
        let (output, cut) = {
            let mut switch = look(switch);
            let now = began.elapsed();
            for echo in switch.take_echoes() {
                if let Ok(asked) = echo.try_into().map(u64::from_be_bytes) {
                    echoes.add(now.saturating_sub(Duration::from_nanos(asked)));
                }
            }
            (switch.take_output(), switch.is_cut())
        };
        writer.write_all(&output).await?;
        if cut || habits.flap.is_some_and(|after| began.elapsed() >= after) {
            return Ok(());
        }
        tokio::select! {
            got = reader.read(&mut buffer) => {
                let length = got?;
                if length == 0 {
                    return Ok(());
                }
                let delay = look(switch).manners.delay;
                if !delay.is_zero() {
                    sleep(delay).await;
                }
                let bytes = buffer.get(..length).unwrap_or_default();
                look(switch).received(bytes).map_err(std::io::Error::other)?;
            }
            _ = asks.tick(), if habits.echo.is_some() => {
                echoes.sent.fetch_add(1, Ordering::Relaxed);
                let now = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                look(switch).ask(now.to_be_bytes().to_vec());
            }
            () = sleep(habits.flap.map_or(period, |after| after.saturating_sub(began.elapsed()))), if habits.flap.is_some() => {}
        }
    }
}
