//! One switch's connection, by TCP or TLS: a task that reads, and one that writes from a bounded queue.
//!
//! While much waits to be written nothing is read: a switch that sends packets faster than it takes the answers is
//! slowed down by TCP, and sheds packets by its own rules.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::accept::{Reader, Stream, Writer};
use super::run::Input;
use crate::core::{ConnId, Event};

/// The most bytes that wait for a switch that does not read; beyond it the connection is closed. All entries of a
/// switch may have to be deleted at once, which is 6 MiB on top of what waits.
pub const MAX_WAITING_BYTES: usize = 12 << 20;
/// While more bytes wait nothing is read from the switch.
const READ_ON_BYTES: usize = 1 << 20;
/// The most bytes of a switch that are handled at once.
const READ_BYTES: usize = 64 << 10;
/// How long a switch may take none of the messages that wait for it.
const STALL_LIMIT: Duration = Duration::from_secs(8);
/// How long a connection that is being closed may take to read what is queued.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// A connection, as the main task has it. Dropping it ends the tasks at once.
#[derive(Debug)]
pub struct Connection {
    queue: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    reader: JoinHandle<()>,
    writer: Option<JoinHandle<()>>,
}

/// More waits for a switch than it may.
#[derive(Debug, thiserror::Error)]
#[error("it does not read what it is sent: {waiting} bytes wait")]
pub struct TooSlow {
    waiting: usize,
}

impl Connection {
    /// Starts the tasks of a connection, which tell the main task what happens.
    pub fn start(conn: ConnId, stream: Stream, inputs: mpsc::Sender<Input>) -> Self {
        let (read, write) = stream.split();
        let (queue, queued) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let backlog = Backlog { waiting: Arc::clone(&waiting), written: Arc::new(Notify::new()) };
        let writer = tokio::spawn(write_all(write, queued, backlog.clone()));
        let reader = tokio::spawn(read_all(conn, read, backlog, inputs));
        Self { queue, waiting, reader, writer: Some(writer) }
    }

    /// Queues a message.
    ///
    /// # Errors
    /// Too much waits already; the message is not queued.
    pub fn send(&self, bytes: Vec<u8>) -> Result<(), TooSlow> {
        let waiting = self.waiting.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
        if waiting > MAX_WAITING_BYTES {
            return Err(TooSlow { waiting });
        }
        // The writer is gone only when the connection broke, and the reader tells that.
        let _ = self.queue.send(bytes);
        Ok(())
    }

    /// How many bytes wait to be written.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Reads no more, sends what is queued for a short while, and closes.
    pub fn close(mut self) {
        self.reader.abort();
        let Some(mut writer) = self.writer.take() else { return };
        // With this connection its end of the queue goes, and with that the writer ends once the queue is empty.
        drop(self);
        tokio::spawn(async move {
            if tokio::time::timeout(FLUSH_LIMIT, &mut writer).await.is_err() {
                writer.abort();
            }
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
        if let Some(writer) = &self.writer {
            writer.abort();
        }
    }
}

/// What waits to be written, as both tasks see it.
#[derive(Clone)]
struct Backlog {
    waiting: Arc<AtomicUsize>,
    written: Arc<Notify>,
}

impl Backlog {
    /// Returns once little waits.
    async fn is_short(&self) -> Result<(), TooSlow> {
        loop {
            let waiting = self.waiting.load(Ordering::Relaxed);
            if waiting <= READ_ON_BYTES {
                return Ok(());
            }
            let written = tokio::time::timeout(STALL_LIMIT, self.written.notified());
            written.await.map_err(|_| TooSlow { waiting })?;
        }
    }
}

async fn read_all(conn: ConnId, mut read: Reader, backlog: Backlog, inputs: mpsc::Sender<Input>) {
    // Its next bytes are read once the last ones have been handled: so switches take turns, however much one sends.
    let turns = Arc::new(Semaphore::new(1));
    let reason = loop {
        if let Err(error) = backlog.is_short().await {
            break format!("closed, since {error}");
        }
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let mut bytes = Vec::with_capacity(READ_BYTES);
        match read.read_buf(&mut bytes).await {
            Ok(0) => break "the switch closed the connection".to_owned(),
            Ok(_) => {
                if inputs.send(Input::Bytes { conn, bytes, turn }).await.is_err() {
                    return;
                }
            }
            Err(error) => break error.to_string(),
        }
    };
    // Fails only when the main task ended.
    let _ = inputs.send(Input::Event(Event::Closed { conn, reason })).await;
}

async fn write_all(mut write: Writer, mut queued: mpsc::UnboundedReceiver<Vec<u8>>, backlog: Backlog) {
    while let Some(bytes) = queued.recv().await {
        if write.write_all(&bytes).await.is_err() {
            return;
        }
        backlog.waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
        backlog.written.notify_one();
    }
    let _ = write.shutdown().await;
}

#[cfg(test)]
mod tests {
    use openflow::{MacAddr, Message, PortNo, Version, Xid};

    use super::*;
    use crate::core::cookie::Purpose;
    use crate::core::entries::{Key, MAX_ENTRIES};
    use crate::core::pipeline::Layout;

    #[test]
    fn the_deletion_of_all_entries_at_once_is_not_taken_for_a_slow_switch() {
        let key = Key { in_port: PortNo(1), vlan: Some(5), src: MacAddr([2; 6]), dst: MacAddr([4; 6]) };
        for layout in [Layout::Three, Layout::Single(Version::V1_0)] {
            let version = if layout == Layout::Three { Version::V1_3 } else { Version::V1_0 };
            let mut one = Vec::new();
            let delete = Message::FlowMod(layout.delete(&key, Purpose::Forward));
            delete.encode(version, Xid(1), &mut one).unwrap();
            assert!(one.len() * MAX_ENTRIES <= MAX_WAITING_BYTES, "{} bytes each", one.len());
        }
    }
}
