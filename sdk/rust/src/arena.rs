//! The allocator of a plugin. An instance lives for one call, so what counts is
//! how cheap the first blocks are: they come from 256 KiB that stand ready in
//! the instance; only who needs more makes the memory grow. Freed blocks are
//! used again for blocks of their size class.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr::null_mut;

/// What most calls get by with.
const READY: usize = 256 << 10;
/// The least that memory grows by.
const STEP: usize = 256 << 10;
/// Sizes are multiples of it, and addresses.
const GRAIN: usize = 16;
const CLASSES: usize = 112;

#[repr(align(16))]
struct Ready(UnsafeCell<[u8; READY]>);

// SAFETY: an instance has one thread.
unsafe impl Sync for Ready {}

static ROOM: Ready = Ready(UnsafeCell::new([0; READY]));

struct State {
    next: usize,
    end: usize,
    /// Of each class the block that was freed last, which begins with the
    /// address of the one before.
    free: [usize; CLASSES],
}

/// See the module.
pub struct Arena(UnsafeCell<State>);

// SAFETY: an instance has one thread.
unsafe impl Sync for Arena {}

impl Arena {
    /// An arena with nothing in it.
    pub const fn new() -> Arena {
        Arena(UnsafeCell::new(State {
            next: 0,
            end: 0,
            free: [0; CLASSES],
        }))
    }
}

/// The class of a size and what its blocks have: multiples of 16 to 64, then
/// four classes to each doubling, so that a fifth is wasted at most.
fn class(size: usize) -> (usize, usize) {
    if size <= 64 {
        let grains = size.div_ceil(GRAIN).max(1);
        return (grains - 1, grains * GRAIN);
    }
    let doubling = (size - 1).ilog2() as usize;
    let (base, step) = (1 << doubling, 1 << (doubling - 2));
    let quarter = (size - base).div_ceil(step);
    (4 + (doubling - 6) * 4 + quarter - 1, base + quarter * step)
}

impl State {
    fn take(&mut self, size: usize, align: usize, grow: impl Fn(usize) -> usize) -> *mut u8 {
        let (class, size) = class(size);
        let freed = self.free[class];
        if freed != 0 && align <= GRAIN {
            // SAFETY: a freed block begins with an address.
            self.free[class] = unsafe { *(freed as *const usize) };
            return freed as *mut u8;
        }
        let mut at = self.next.next_multiple_of(align.max(GRAIN));
        if at.saturating_add(size) > self.end {
            if self.end == 0 {
                self.next = ROOM.0.get() as usize;
                self.end = self.next + READY;
            }
            at = self.next.next_multiple_of(align.max(GRAIN));
            if at.saturating_add(size) > self.end && !self.more(size + align, grow) {
                return null_mut();
            }
            at = self.next.next_multiple_of(align.max(GRAIN));
        }
        self.next = at + size;
        at as *mut u8
    }

    fn more(&mut self, size: usize, grow: impl Fn(usize) -> usize) -> bool {
        let bytes = size.max(STEP).next_multiple_of(64 << 10);
        let start = grow(bytes);
        if start == 0 {
            return false;
        }
        if start != self.end {
            self.next = start;
        }
        self.end = start + bytes;
        true
    }

    fn give(&mut self, at: usize, size: usize) {
        let (class, size) = class(size);
        if at + size == self.next {
            self.next = at;
        } else {
            // SAFETY: the block has room for an address, and nobody uses it.
            unsafe { *(at as *mut usize) = self.free[class] };
            self.free[class] = at;
        }
    }

    /// Whether the block at `at` can have another size where it is.
    fn stretch(&mut self, at: usize, old: usize, new: usize) -> bool {
        let (old, new) = (class(old).1, class(new).1);
        if at + old == self.next && at + new <= self.end {
            self.next = at + new;
            return true;
        }
        old == new
    }
}

#[cfg(target_arch = "wasm32")]
fn grow(bytes: usize) -> usize {
    let pages = core::arch::wasm32::memory_grow(0, bytes >> 16);
    if pages == usize::MAX { 0 } else { pages << 16 }
}

#[cfg(not(target_arch = "wasm32"))]
fn grow(bytes: usize) -> usize {
    let layout = Layout::from_size_align(bytes, GRAIN).expect("tests ask for little");
    // SAFETY: there is something to allocate; nobody frees it, as in an instance.
    unsafe { std::alloc::alloc(layout) as usize }
}

// SAFETY: blocks do not overlap: each is new room, or was freed and taken from
// its list.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: an instance has one thread, and nothing here calls back.
        unsafe { (*self.0.get()).take(layout.size(), layout.align(), grow) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { (*self.0.get()).give(ptr as usize, layout.size()) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above; the new block is another one, and larger or smaller
        // ones are copied as far as both reach.
        unsafe {
            if (*self.0.get()).stretch(ptr as usize, layout.size(), new_size) {
                return ptr;
            }
            let new = (*self.0.get()).take(new_size, layout.align(), grow);
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(ptr, new, layout.size().min(new_size));
                (*self.0.get()).give(ptr as usize, layout.size());
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_a_class_that_holds_it_and_wastes_a_fifth_at_most() {
        let mut last = (0, 16);
        for size in 1..1_000_000 {
            let (class, room) = class(size);
            assert!(room >= size && room % GRAIN == 0, "{size}: {room}");
            assert!(size <= 64 || room - size <= size / 4, "{size}: {room}");
            assert!(class == last.0 || class == last.0 + 1, "{size}: {class}");
            assert!((class == last.0) == (room == last.1), "{size}: {class}");
            last = (class, room);
        }
        assert!(class(u32::MAX as usize / 2).0 < CLASSES);
    }

    #[test]
    fn blocks_never_overlap_and_keep_what_is_written_to_them() {
        let arena = Arena::new();
        let mut blocks: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let mut random = 12_345_u64;
        for round in 0..20_000_u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(round | 1);
            let pick = (random >> 33) as usize;
            if blocks.len() > 50 || (pick % 3 == 0 && !blocks.is_empty()) {
                let (ptr, layout, mark) = blocks.swap_remove(pick % blocks.len());
                let bytes = unsafe { std::slice::from_raw_parts(ptr, layout.size()) };
                assert!(bytes.iter().all(|byte| *byte == mark));
                if pick % 2 == 0 {
                    unsafe { arena.dealloc(ptr, layout) };
                    continue;
                }
                let size = 1 + pick % 30_000;
                let kept = size.min(layout.size());
                let ptr = unsafe { arena.realloc(ptr, layout, size) };
                let bytes = unsafe { std::slice::from_raw_parts_mut(ptr, size) };
                assert!(bytes[..kept].iter().all(|byte| *byte == mark));
                bytes.fill(mark);
                let layout = Layout::from_size_align(size, layout.align()).unwrap();
                blocks.push((ptr, layout, mark));
            } else {
                let layout = Layout::from_size_align(1 + pick % 20_000, 1 << (pick % 7)).unwrap();
                let ptr = unsafe { arena.alloc(layout) };
                assert!(!ptr.is_null() && ptr as usize % layout.align() == 0);
                unsafe { ptr.write_bytes(round as u8, layout.size()) };
                blocks.push((ptr, layout, round as u8));
            }
        }
        let room = unsafe { &*arena.0.get() };
        assert_ne!(room.end, ROOM.0.get() as usize + READY, "it never grew");
    }
}
