//! Names of what the kernel tells by number: why a packet was dropped, and where.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::Arc;

use super::decode::Names;

/// Most places remembered; there are some hundred in the whole kernel.
const MOST_PLACES: usize = 4_096;

/// Names of the running kernel's, each made once.
pub struct KernelNames {
    reasons: HashMap<u32, Arc<str>>,
    /// Read at the first drop: it takes some 30 ms, and most nodes drop nothing for long.
    symbols: Option<Symbols>,
    places: HashMap<u64, Option<Arc<str>>>,
}

impl KernelNames {
    /// With the names of reasons, by number.
    pub fn new(reasons: HashMap<u32, Arc<str>>) -> Self {
        Self { reasons, symbols: None, places: HashMap::new() }
    }
}

impl Names for KernelNames {
    fn reason(&mut self, number: u32) -> Option<Arc<str>> {
        // Subsystems number their own from 1 << 16 on, and BTF does not join them to the enum.
        Some(self.reasons.entry(number).or_insert_with(|| format!("{number:#x}").into()).clone())
    }

    fn place(&mut self, address: u64) -> Option<Arc<str>> {
        if let Some(known) = self.places.get(&address) {
            return known.clone();
        }
        let symbols = self.symbols.get_or_insert_with(Symbols::of_the_kernel);
        let place = symbols.function_of(address).map(Arc::from);
        if self.places.len() < MOST_PLACES {
            self.places.insert(address, place.clone());
        }
        place
    }
}

/// The kernel's functions by address.
#[derive(Default)]
struct Symbols {
    /// Address, and where the name starts and ends in `text`; sorted.
    functions: Vec<(u64, u32, u32)>,
    text: String,
}

impl Symbols {
    fn of_the_kernel() -> Self {
        match File::open("/proc/kallsyms") {
            Ok(file) => Self::parse(BufReader::with_capacity(1 << 16, file)),
            Err(_) => Self::default(),
        }
    }

    /// Reads lines as `ffffffff81000000 T _text [module]`. Addresses that are hidden are all zero.
    fn parse(mut lines: impl BufRead) -> Self {
        let mut symbols = Self::default();
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
            symbols.take(&line);
            line.clear();
        }
        symbols.functions.sort_unstable();
        symbols.functions.shrink_to_fit();
        symbols.text.shrink_to_fit();
        symbols
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let mut fields = line.split_ascii_whitespace();
        let address = u64::from_str_radix(fields.next()?, 16).ok().filter(|address| *address != 0)?;
        let kind = fields.next()?;
        let name = fields.next()?;
        if matches!(kind, "t" | "T" | "w" | "W") && !name.starts_with("__pfx_") {
            let start = u32::try_from(self.text.len()).ok()?;
            self.text.push_str(name);
            self.functions.push((address, start, u32::try_from(self.text.len()).ok()?));
        }
        Some(())
    }

    /// The function that a return address is in: it may stand behind the function's last instruction.
    fn function_of(&self, address: u64) -> Option<&str> {
        let behind = self.functions.partition_point(|(start, ..)| *start < address);
        let (_, start, end) = self.functions.get(behind.checked_sub(1)?)?;
        let name = self.text.get(*start as usize..*end as usize)?;
        // What compilers split off a function or made of it: nf_hook_slow.cold, foo.isra.0.
        Some(name.split('.').next().unwrap_or(name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINES: &str = "ffffffff81000000 T _text\nffffffff81000100 D data\nffffffff81000200 t nf_hook_slow\n\
        ffffffff81000180 t nft_do_chain.isra.0\t[nf_tables]\nffffffff81000300 T __pfx_next\nffffffff81000310 T next\n";

    #[test]
    fn a_return_address_is_in_the_function_that_called() {
        let symbols = Symbols::parse(LINES.as_bytes());
        assert_eq!(symbols.function_of(0xffff_ffff_8100_0010), Some("_text"));
        assert_eq!(symbols.function_of(0xffff_ffff_8100_01ff), Some("nft_do_chain"));
        assert_eq!(symbols.function_of(0xffff_ffff_8100_0200), Some("nft_do_chain"), "its call was its last");
        assert_eq!(symbols.function_of(0xffff_ffff_8100_0201), Some("nf_hook_slow"));
        assert_eq!(symbols.function_of(0xffff_ffff_8100_0311), Some("next"));
        assert_eq!(symbols.function_of(1), None);
    }

    #[test]
    fn hidden_addresses_give_no_place() {
        let hidden = Symbols::parse("0000000000000000 T _text\n0000000000000000 t nf_hook_slow\n".as_bytes());
        assert_eq!(hidden.function_of(0xffff_ffff_8100_0201), None);
    }

    #[test]
    fn a_reason_without_a_name_keeps_its_number() {
        let mut names = KernelNames::new(HashMap::from([(6, "NETFILTER_DROP".into())]));
        assert_eq!(names.reason(6).as_deref(), Some("NETFILTER_DROP"));
        assert_eq!(names.reason(0x1_0002).as_deref(), Some("0x10002"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text: String, address: u64) {
            let _ = Symbols::parse(text.as_bytes()).function_of(address);
        }
    }
}
