//! The rules once more, for a configuration that was changed at run time.

use super::check::{self, BackendPlace, Places, VipPlace};
use super::error::{ConfigError, Origin, Problems};
use super::{Config, VipConfig};

/// Checks every rule between values. Nobody wrote this configuration down, so a mistake has no line.
pub(super) fn config(config: &Config) -> Result<(), ConfigError> {
    let place = |vip: &VipConfig| VipPlace {
        backends: vip.backends.iter().map(|_| BackendPlace::default()).collect(),
        ..VipPlace::default()
    };
    let places = Places {
        attach: vec![0; config.placement.attach.len()],
        vips: config.vips.iter().map(place).collect(),
        ..Places::default()
    };
    let mut problems = Problems::default();
    check::config(&mut config.clone(), &places, &mut problems);
    problems.into_first().map_or(Ok(()), |(_, message)| Err(ConfigError::new(Origin::Change, &message)))
}
