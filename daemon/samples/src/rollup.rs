//! Roll-ups.
use crate::engine::Inner;
use crate::query::{Frames, QueryError, Rollup};
impl Inner {
    pub(crate) fn rollup(&self, _ask: &Rollup<'_>) -> Result<Frames, QueryError> {
        unimplemented!()
    }
}
