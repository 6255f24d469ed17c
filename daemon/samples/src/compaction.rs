//! Compaction.
use crate::catalog::CatalogError;
use crate::engine::Inner;
use crate::keeper::Keeper;
use model::Timestamp;
impl Inner {
    pub(crate) fn compact_if_due(
        &self,
        _keeper: &mut Keeper,
        _now: Timestamp,
    ) -> Result<bool, CatalogError> {
        Ok(false)
    }
    pub(crate) fn tidy(&self, _keeper: &mut Keeper, _now: Timestamp) -> Result<(), CatalogError> {
        Ok(())
    }
}
