//! Reading the kernel's own objects, by address.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

/// Copies one field of a kernel object; false if its address cannot be read.
///
/// # Safety
///
/// Any bytes are a value of `T`.
#[inline(always)]
pub unsafe fn read<T>(object: u64, offset: u32, into: *mut T) -> bool {
    let address = object.wrapping_add(u64::from(offset));
    // SAFETY: the helper checks the address and writes `size_of::<T>()` bytes, with zeros on failure.
    unsafe { bpf_probe_read_kernel(into.cast(), size_of::<T>() as u32, address as *const _) == 0 }
}
