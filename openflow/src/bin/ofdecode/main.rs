//! Reads OpenFlow messages from files, captures or hex digits, and prints them as text or JSON.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

mod input;
mod pcap;
mod render;
mod roundtrip;
mod segments;
mod stream;

use input::{Piece, Source};

/// Decodes OpenFlow 1.0 and 1.3 messages.
///
/// A file may hold messages one behind the other, hex digits (a message a line, or one message on several; what
/// follows a # is left out), lines of JSON with the digits in a member "hex", or a capture (pcap or pcapng) of the TCP
/// connection between switch and controller.
#[derive(Debug, Parser)]
#[command(name = "ofdecode", version, max_term_width = 100, after_help = EXIT_STATUS)]
struct Args {
    /// Files to read; - reads standard input.
    #[arg(value_name = "FILE", required_unless_present = "hex")]
    files: Vec<PathBuf>,
    /// Hex digits of messages, instead of or beside files.
    #[arg(long, value_name = "DIGITS")]
    hex: Vec<String>,
    /// What the files hold.
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,
    /// TCP port of the controller in captures; may be given several times.
    #[arg(long, value_name = "PORT", default_values_t = [6633, 6653])]
    port: Vec<u16>,
    /// Print a JSON object a line instead of text.
    #[arg(long)]
    json: bool,
    /// Encode each message again from its decoded values alone, and print a JSON object a line that says whether the
    /// bytes are the same.
    #[arg(long)]
    roundtrip: bool,
}

const EXIT_STATUS: &str = "Exit status: 0 if all went well, 1 if a message does not decode or, with --roundtrip, if a \
                           decoded one does not encode to the same bytes, 2 if an input cannot be read.";

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Look at its beginning.
    Auto,
    /// Messages one behind the other.
    Binary,
    /// Hex digits, or lines of JSON.
    Hex,
    /// A capture, pcap or pcapng.
    Pcap,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    match run(&args, &mut out).and_then(|status| out.flush().map(|()| status).map_err(Into::into)) {
        Ok(status) => status,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ofdecode: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whoever reads our output, as head(1), has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run(args: &Args, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let mut sources: Vec<Source> = Vec::new();
    for digits in &args.hex {
        sources.push(Source::of_hex(digits)?);
    }
    for file in &args.files {
        sources.push(Source::of_file(file, args.format, &args.port)?);
    }
    let mut all_well = true;
    for source in sources {
        for piece in source.pieces {
            all_well &= print(args, &source.name, piece, out)?;
        }
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints one piece of input; whether all is well with it.
fn print(args: &Args, file: &str, piece: Piece, out: &mut impl Write) -> io::Result<bool> {
    if args.roundtrip {
        roundtrip::print(file, piece, out)
    } else {
        render::print(file, &piece, args.json, out)
    }
}
