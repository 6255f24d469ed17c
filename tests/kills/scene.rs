//! What goes on while the writer is killed.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// Appends alone.
    Append,
    /// The head is cut all the time.
    Cut,
    /// Days go by in seconds, and are compacted.
    Compaction,
    /// Backups are made all the time.
    Backup,
    /// A store of the schema before is brought up to this one.
    Migration,
    /// The disk is small, and somebody else fills it again and again.
    FullDisk,
}

impl Scene {
    pub(crate) const ALL: [Scene; 6] = [
        Scene::Append,
        Scene::Cut,
        Scene::Compaction,
        Scene::Backup,
        Scene::Migration,
        Scene::FullDisk,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Scene::Append => "append",
            Scene::Cut => "cut",
            Scene::Compaction => "compaction",
            Scene::Backup => "backup",
            Scene::Migration => "migration",
            Scene::FullDisk => "full-disk",
        }
    }

    pub(crate) fn of_word(word: &str) -> Option<Scene> {
        Scene::ALL.into_iter().find(|scene| scene.word() == word)
    }

    /// Of a hundred kills.
    pub(crate) fn share(self) -> usize {
        match self {
            Scene::Append | Scene::Cut | Scene::Compaction => 20,
            Scene::Backup | Scene::FullDisk => 15,
            Scene::Migration => 10,
        }
    }

    /// What it needs that may not be there.
    pub(crate) fn wants(self) -> &'static str {
        match self {
            Scene::FullDisk => "it mounts a small tmpfs, which root alone may do",
            _ => "nothing",
        }
    }

    /// Between two rows of a group, in ms.
    pub(crate) fn step_ms(self) -> u64 {
        match self {
            Scene::Compaction => 10 * 60 * 1000,
            _ => 1_000,
        }
    }
}
