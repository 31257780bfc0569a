//! Reading a program's context.
//!
//! The verifier rewrites each load from the context, so it must be one instruction with the field's
//! constant offset. A compiler joins loads of two branches into one with a computed address, volatile
//! or not, which the verifier refuses; so the instruction is written out.

use core::arch::asm;

/// The 32 bits at `OFFSET` of a context.
///
/// # Safety
///
/// `context` is the program's context, and has a field of that width there.
#[inline(always)]
pub unsafe fn word<const OFFSET: usize, T>(context: *const T) -> u32 {
    let value: u64;
    // SAFETY: as the caller promises; nothing is written.
    unsafe {
        asm!("{value} = *(u32 *)({context} + {offset})", value = out(reg) value, context = in(reg) context,
            offset = const OFFSET, options(nostack, readonly, preserves_flags));
    }
    value as u32
}

/// The 64 bits at `OFFSET` of a context.
///
/// # Safety
///
/// `context` is the program's context, and has a field of that width there.
#[inline(always)]
pub unsafe fn long<const OFFSET: usize, T>(context: *const T) -> u64 {
    let value: u64;
    // SAFETY: as the caller promises; nothing is written.
    unsafe {
        asm!("{value} = *(u64 *)({context} + {offset})", value = out(reg) value, context = in(reg) context,
            offset = const OFFSET, options(nostack, readonly, preserves_flags));
    }
    value
}

/// A number's lowest six bits, by an instruction that the compiler cannot leave out: where it knows
/// the number to be small the verifier does not.
#[inline(always)]
pub fn below64(number: u32) -> u64 {
    let mut number = u64::from(number);
    // SAFETY: it touches the one register.
    unsafe { asm!("{0} &= 63", inout(reg) number, options(nostack, nomem, pure, preserves_flags)) };
    number
}

/// A 32-bit field of a context; of an array, the element at an index.
macro_rules! field {
    ($context:expr, $type:ty, $name:ident) => {
        $crate::context::word::<{ core::mem::offset_of!($type, $name) }, $type>($context)
    };
    ($context:expr, $type:ty, $name:ident, $index:literal) => {
        $crate::context::word::<{ core::mem::offset_of!($type, $name) + 4 * $index }, $type>($context)
    };
}
pub(crate) use field;
