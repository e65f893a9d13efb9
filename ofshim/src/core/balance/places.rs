//! Numbers for the ports at which backends answer: the prober knows interfaces by number.

use std::collections::BTreeMap;

use crate::core::topo::Place;

/// The most ports that get a number; beyond it a backend's port is not told apart from others.
const MAX_PLACES: usize = 65_535;
/// The number of all others.
const OTHERS: u32 = 0;

/// Ports and their numbers, from 1.
#[derive(Clone, Debug, Default)]
pub struct Places {
    places: Vec<Place>,
    numbers: BTreeMap<Place, u32>,
}

impl Places {
    /// The number of a port.
    pub fn number(&mut self, place: Place) -> u32 {
        if let Some(number) = self.known(place) {
            return number;
        }
        if self.places.len() >= MAX_PLACES {
            return OTHERS;
        }
        self.places.push(place);
        let number = u32::try_from(self.places.len()).unwrap_or(OTHERS);
        self.numbers.insert(place, number);
        number
    }

    /// The number of a port that has one.
    #[must_use]
    pub fn known(&self, place: Place) -> Option<u32> {
        self.numbers.get(&place).copied()
    }

    /// The port with a number.
    #[must_use]
    pub fn place(&self, number: u32) -> Option<Place> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.places.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use openflow::{DatapathId, PortNo};

    use super::*;

    #[test]
    fn a_port_keeps_its_number() {
        let mut places = Places::default();
        let place = |port| Place::new(DatapathId(1), PortNo(port));
        assert_eq!((places.number(place(7)), places.number(place(3)), places.number(place(7))), (1, 2, 1));
        assert_eq!((places.place(1), places.place(2)), (Some(place(7)), Some(place(3))));
        assert_eq!((places.place(0), places.place(3), places.known(place(9))), (None, None, None));
    }
}
