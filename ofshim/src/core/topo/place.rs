//! A port of a switch, as the network names it.

use std::fmt;
use std::str::FromStr;

use openflow::{DatapathId, PortNo};

/// A port of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The switch.
    pub dpid: DatapathId,
    /// Its port.
    pub port: PortNo,
}

impl Place {
    /// Port `port` of switch `dpid`.
    #[must_use]
    pub const fn new(dpid: DatapathId, port: PortNo) -> Self {
        Self { dpid, port }
    }
}

impl fmt::Display for Place {
    /// `0000000000000001:3`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.dpid, self.port)
    }
}

/// A text that names no port of a switch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no port of a switch: a datapath id (hex digits) and a port are needed, as 0000000000000001:3 or 1:3"
)]
pub struct PlaceParseError(pub String);

impl FromStr for Place {
    type Err = PlaceParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || PlaceParseError(text.to_owned());
        let (dpid, port) = text.split_once(':').ok_or_else(bad)?;
        if dpid.len() > 16 || !dpid.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let dpid = u64::from_str_radix(dpid, 16).map_err(|_| bad())?;
        let port = match port {
            "local" => PortNo::LOCAL,
            number => PortNo(number.parse().map_err(|_| bad())?),
        };
        Ok(Self::new(DatapathId(dpid), port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        let place = Place::new(DatapathId(0xab), PortNo(3));
        assert_eq!(place.to_string(), "00000000000000ab:3");
        assert_eq!(place.to_string().parse(), Ok(place));
        assert_eq!("ab:3".parse(), Ok(place));
        assert_eq!("1:local".parse(), Ok(Place::new(DatapathId(1), PortNo::LOCAL)));
        for bad in ["", "1", "1:", ":1", "x:1", "00000000000000001:1", "1:-1", "+1:2"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
