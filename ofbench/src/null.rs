//! A controller that decides nothing: it answers each packet-in with the same packet-out. What the generator reaches
//! with it is the most that it can measure.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use anyhow::{Result, ensure};
use openflow::{Action, BufferId, PortNo};
use openflow::{Hello, Message, PacketOutRef, Version, Xid};

const READ_BYTES: usize = 256 << 10;
const HEADER_BYTES: usize = 8;
const TYPE_HELLO: u8 = 0;
const TYPE_ECHO_REQUEST: u8 = 2;
const TYPE_PACKET_IN: u8 = 10;
/// Bytes of the end of a packet-in that are the frame.
const FRAME_BYTES: usize = 60;

struct Peer {
    stream: TcpStream,
    version: Version,
    inbound: Vec<u8>,
    outbound: Vec<u8>,
    /// A packet-out for a frame of 60 bytes, which stand at its end.
    answer: Vec<u8>,
}

/// Serves until the process is ended.
///
/// # Errors
/// Connections cannot be accepted or waited for.
pub fn serve(listener: &TcpListener) -> Result<()> {
    let mut peers: Vec<Peer> = Vec::new();
    loop {
        let wait = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut waits: Vec<libc::pollfd> = peers.iter().map(|peer| wait(peer.stream.as_raw_fd())).collect();
        waits.push(wait(listener.as_raw_fd()));
        let count = libc::nfds_t::try_from(waits.len()).unwrap_or_default();
        // SAFETY: the pointer and the count are those of one vector, which lives until the call returns.
        let ready = unsafe { libc::poll(waits.as_mut_ptr(), count, -1) };
        ensure!(ready >= 0, "cannot wait: {}", std::io::Error::last_os_error());
        if waits.pop().is_some_and(|wait| wait.revents != 0) {
            peers.push(Peer::new(listener.accept()?.0)?);
        }
        let mut ready = waits.iter().map(|wait| wait.revents != 0);
        peers.retain_mut(|peer| !ready.next().unwrap_or_default() || peer.turn().is_ok());
    }
}

impl Peer {
    fn new(mut stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        let mut hello = Vec::new();
        Message::Hello(Hello::offering(&[Version::V1_0, Version::V1_3])).encode(
            Version::V1_3,
            Xid(1),
            &mut hello,
        )?;
        stream.write_all(&hello)?;
        Ok(Self {
            stream,
            version: Version::V1_3,
            inbound: Vec::new(),
            outbound: Vec::new(),
            answer: Vec::new(),
        })
    }

    /// Reads once and answers. The generator reads whatever else it does, so a write that blocks ends.
    fn turn(&mut self) -> Result<()> {
        let have = self.inbound.len();
        self.inbound.resize(have + READ_BYTES, 0);
        let count = self.stream.read(self.inbound.get_mut(have..).unwrap_or_default())?;
        ensure!(count > 0, "closed");
        self.inbound.truncate(have + count);
        let inbound = std::mem::take(&mut self.inbound);
        let mut rest = inbound.as_slice();
        while let Some(header) = rest.first_chunk::<HEADER_BYTES>() {
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let Some((message, behind)) = rest.split_at_checked(length.max(HEADER_BYTES)) else { break };
            rest = behind;
            self.message(*header, message)?;
        }
        let used = inbound.len() - rest.len();
        self.inbound = inbound;
        self.inbound.drain(..used);
        self.stream.write_all(&self.outbound)?;
        self.outbound.clear();
        Ok(())
    }

    fn message(&mut self, header: [u8; HEADER_BYTES], message: &[u8]) -> Result<()> {
        match header[1] {
            TYPE_PACKET_IN => {
                let frame = message.last_chunk::<FRAME_BYTES>();
                let at = self.answer.len().saturating_sub(FRAME_BYTES);
                if let (Some(frame), Some(place)) = (frame, self.answer.get_mut(at..)) {
                    place.copy_from_slice(frame);
                    self.outbound.extend_from_slice(&self.answer);
                }
            }
            TYPE_HELLO => {
                self.version = Version::from_wire(header[0]).unwrap_or(Version::V1_0);
                let answer = PacketOutRef {
                    buffer_id: BufferId::NO_BUFFER,
                    in_port: PortNo(1),
                    actions: &[Action::output(PortNo(2))],
                    data: &[0; FRAME_BYTES],
                };
                answer.encode(self.version, Xid(0), &mut self.answer)?;
                Message::FeaturesRequest.encode(self.version, Xid(2), &mut self.outbound)?;
            }
            TYPE_ECHO_REQUEST => {
                let at = self.outbound.len() + 1;
                self.outbound.extend_from_slice(message);
                if let Some(kind) = self.outbound.get_mut(at) {
                    *kind = TYPE_ECHO_REQUEST + 1;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
