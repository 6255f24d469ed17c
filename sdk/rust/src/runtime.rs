//! What the generated bindings stand on: memory for what the host passes, and
//! a panic that says where it was.

use std::alloc::Layout;
use std::ptr::NonNull;

/// Room that a result needs while it is passed; freed when dropped.
pub struct Cleanup {
    ptr: NonNull<u8>,
    layout: Layout,
}

impl Cleanup {
    /// Room of this layout. None is needed for nothing.
    pub fn new(layout: Layout) -> (*mut u8, Option<Cleanup>) {
        if layout.size() == 0 {
            return (layout.align() as *mut u8, None);
        }
        // SAFETY: the size is not zero.
        let ptr = unsafe { std::alloc::alloc(layout) };
        let Some(ptr) = NonNull::new(ptr) else {
            std::alloc::handle_alloc_error(layout);
        };
        (ptr.as_ptr(), Some(Cleanup { ptr, layout }))
    }

    /// Somebody else frees it.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        // SAFETY: `new` allocated it with this layout, and it is freed once.
        unsafe { std::alloc::dealloc(self.ptr.as_ptr(), self.layout) }
    }
}

/// Where the host puts what it passes (canonical ABI of the component model).
///
/// # Safety
///
/// Called by the host alone, with what it was given before.
#[cfg(target_arch = "wasm32")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cabi_realloc(
    old: *mut u8,
    old_len: usize,
    align: usize,
    new_len: usize,
) -> *mut u8 {
    // SAFETY: the host gives powers of two, and what it was given here before.
    unsafe {
        let new = if old_len == 0 {
            if new_len == 0 {
                return align as *mut u8;
            }
            std::alloc::alloc(Layout::from_size_align_unchecked(new_len, align))
        } else {
            let layout = Layout::from_size_align_unchecked(old_len, align);
            std::alloc::realloc(old, layout, new_len)
        };
        if new.is_null() {
            core::arch::wasm32::unreachable();
        }
        new
    }
}

/// A panic is a bare trap to the host unless somebody tells it more.
pub fn begin() {
    #[cfg(target_arch = "wasm32")]
    {
        use std::sync::atomic::{AtomicBool, Ordering};
        static BEGUN: AtomicBool = AtomicBool::new(false);
        if !BEGUN.swap(true, Ordering::Relaxed) {
            std::panic::set_hook(Box::new(tell));
        }
    }
}

/// In the words of the standard library, which the host reads again:
/// `panicked at src/lib.rs:7:9:` and a line with the text.
#[cfg(target_arch = "wasm32")]
fn tell(panic: &std::panic::PanicHookInfo<'_>) {
    crate::log(crate::Level::Error, &panic.to_string(), &[]);
}
