//! A pair of values: one for each side of a session.

use super::Side;

/// A value for the client's side and one for the backend's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Both<T> {
    pub(super) client: T,
    pub(super) backend: T,
}

impl<T> Both<T> {
    pub(super) fn of(&self, side: Side) -> &T {
        match side {
            Side::Client => &self.client,
            Side::Backend => &self.backend,
        }
    }

    pub(super) fn of_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Client => &mut self.client,
            Side::Backend => &mut self.backend,
        }
    }
}
