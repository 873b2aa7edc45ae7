//! Whose orders count: those of the newest controller, to this registration of the broker.

use troupe_protocol::kafka::errors::ErrorCode;

use super::orders::{Authority, NO_BROKER_EPOCH};

/// What a broker knows of the epochs around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fence {
    /// The newest controller epoch that was heard of.
    controller_epoch: i32,
    /// The epoch of the broker's own registration.
    broker_epoch: i64,
    /// That registration has ended.
    has_ended: bool,
}

impl Fence {
    /// Starts before any controller and registration.
    pub(super) fn new() -> Self {
        Self {
            controller_epoch: 0,
            broker_epoch: NO_BROKER_EPOCH,
            has_ended: false,
        }
    }

    /// Takes the epoch of a new registration.
    pub(super) fn registered(&mut self, broker_epoch: i64) {
        self.broker_epoch = broker_epoch;
        self.has_ended = false;
    }

    /// Takes note that the registration has ended: only orders to a later one are meant for this broker.
    pub(super) fn deregistered(&mut self) {
        self.has_ended = true;
    }

    /// Tells whether an order is of a controller that was not heard of yet.
    pub(super) fn is_new(&self, authority: &Authority) -> bool {
        authority.controller_epoch > self.controller_epoch
    }

    /// Lets an order pass and remembers its controller.
    ///
    /// # Errors
    /// STALE_BROKER_EPOCH when it was meant for an earlier registration, STALE_CONTROLLER_EPOCH when there has been a
    /// newer controller.
    pub(super) fn pass(&mut self, authority: &Authority) -> Result<(), ErrorCode> {
        let stale = authority.broker_epoch < self.broker_epoch
            || (self.has_ended && authority.broker_epoch == self.broker_epoch);
        if stale && authority.broker_epoch != NO_BROKER_EPOCH {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        if authority.controller_epoch < self.controller_epoch {
            return Err(ErrorCode::StaleControllerEpoch);
        }
        self.controller_epoch = authority.controller_epoch;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(controller_epoch: i32, broker_epoch: i64) -> Authority {
        Authority {
            controller_id: 1,
            controller_epoch,
            broker_epoch,
        }
    }

    #[test]
    fn orders_of_an_older_controller_are_refused() {
        let mut fence = Fence::new();
        assert_eq!(fence.pass(&authority(5, 1)), Ok(()));
        assert_eq!(fence.pass(&authority(5, 1)), Ok(()));
        let older = fence.pass(&authority(4, 1));
        assert_eq!(older, Err(ErrorCode::StaleControllerEpoch));
        assert_eq!(fence.pass(&authority(6, 1)), Ok(()));
    }

    #[test]
    fn orders_to_an_earlier_registration_are_refused() {
        let mut fence = Fence::new();
        fence.registered(70);
        let earlier = fence.pass(&authority(9, 69));
        assert_eq!(earlier, Err(ErrorCode::StaleBrokerEpoch));
        // Its controller does not count either.
        assert_eq!(fence.pass(&authority(1, 70)), Ok(()));
        // The controller may know of a registration before the broker itself does.
        assert_eq!(fence.pass(&authority(1, 71)), Ok(()));
    }

    #[test]
    fn after_its_end_only_orders_to_a_later_registration_count() {
        let mut fence = Fence::new();
        fence.registered(70);
        fence.deregistered();
        let ended = fence.pass(&authority(1, 70));
        assert_eq!(ended, Err(ErrorCode::StaleBrokerEpoch));
        // The controller may know of the next registration before the broker itself does.
        assert_eq!(fence.pass(&authority(1, 71)), Ok(()));
        fence.registered(71);
        assert_eq!(fence.pass(&authority(1, 71)), Ok(()));
    }

    #[test]
    fn the_oldest_orders_know_no_broker_epoch() {
        let mut fence = Fence::new();
        fence.registered(70);
        assert_eq!(fence.pass(&authority(1, NO_BROKER_EPOCH)), Ok(()));
    }
}
