//! `lb top`: the counters as they go, on the terminal.

use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::cli::TopArgs;
use crate::client;
use crate::failure::Failure;
use crate::render::top::{Look, top};

/// The other screen of the terminal, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner; to the end of the line, and of the screen, blank.
const HOME: &str = "\x1b[H";
const BLANK_LINE: &str = "\x1b[K\r\n";
const BLANK_REST: &str = "\x1b[J";

/// Shows the counters until `q`, Ctrl-C, a signal, or so many screens.
///
/// # Errors
/// Standard output is no terminal, JSON is wanted, or the daemon does not answer.
pub async fn run(run_dir: &Path, arguments: &TopArgs, json: bool) -> Result<(), Failure> {
    if json {
        return Err(Failure::wrong("lb top draws on a terminal and has no --json; see 'lb stats --json'"));
    }
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return Err(Failure::wrong("lb top draws on a terminal, and this is none; see 'lb stats --json'"));
    }
    let started = Instant::now();
    let look = async || {
        let (status, stats) = (client::status(run_dir).await?, client::stats(run_dir).await?);
        Ok::<_, Failure>(Look { at_ms: started.elapsed().as_millis() as u64, status, stats })
    };
    // Asked before the screen changes: a refusal stays readable.
    let mut before = look().await?;
    let failed = |error: std::io::Error| Failure::at_work(format!("cannot wait for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut keys = keys();
    let _screen = Screen::enter();
    let mut ticks = tokio::time::interval(Duration::from_secs(arguments.interval));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut shown = 0;
    while arguments.count.is_none_or(|count| shown < count) {
        tokio::select! {
            _ = ticks.tick() => {}
            Some(b'q' | b'Q' | 3) = keys.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
        let now = look().await?;
        draw(&top(&before, &now));
        before = now;
        shown += 1;
    }
    Ok(())
}

/// The bytes typed, from a thread that ends with the process.
fn keys() -> mpsc::Receiver<u8> {
    let (typed, keys) = mpsc::channel(8);
    if std::io::stdin().is_terminal() {
        std::thread::spawn(move || {
            for byte in std::io::stdin().lock().bytes().map_while(Result::ok) {
                if typed.blocking_send(byte).is_err() {
                    return;
                }
            }
        });
    }
    keys
}

/// Draws as much of a text as the terminal has room for.
fn draw(text: &str) {
    let (columns, rows) = size();
    let mut out = HOME.to_owned();
    for line in text.lines().take(rows.saturating_sub(1)) {
        out.extend(line.chars().take(columns));
        out.push_str(BLANK_LINE);
    }
    out.push_str(BLANK_REST);
    show(&out);
}

fn show(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A terminal that went away ends this by a signal.
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).ok();
}

/// Columns and rows of the terminal; 80 and 24 where it does not say.
fn size() -> (usize, usize) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize to the pointer, which is valid for writing.
    let result = unsafe { libc::ioctl(std::io::stdout().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    if result != 0 || size.ws_col == 0 || size.ws_row == 0 {
        return (80, 24);
    }
    (size.ws_col.into(), size.ws_row.into())
}

/// The terminal while it is drawn on: keys come one by one and unseen. As it was before when this is dropped.
struct Screen {
    before: Option<libc::termios>,
}

impl Screen {
    fn enter() -> Self {
        let before = attributes();
        if let Some(mut attributes) = before {
            attributes.c_lflag &= !(libc::ICANON | libc::ECHO);
            set_attributes(&attributes);
        }
        show(ENTER);
        Self { before }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        show(LEAVE);
        if let Some(before) = &self.before {
            set_attributes(before);
        }
    }
}

/// The attributes of standard input, if it is a terminal.
fn attributes() -> Option<libc::termios> {
    let stdin = std::io::stdin();
    let mut attributes = std::mem::MaybeUninit::<libc::termios>::zeroed();
    // SAFETY: tcgetattr fills the struct behind a pointer that is valid for writing; it is read only after success.
    unsafe {
        (libc::tcgetattr(stdin.as_raw_fd(), attributes.as_mut_ptr()) == 0).then(|| attributes.assume_init())
    }
}

fn set_attributes(attributes: &libc::termios) {
    let stdin = std::io::stdin();
    // SAFETY: the descriptor is open, and the attributes are a live struct that is only read. Should it fail, the
    // terminal keeps what it has, which is all that could be done.
    unsafe { libc::tcsetattr(stdin.as_raw_fd(), libc::TCSANOW, attributes) };
}
