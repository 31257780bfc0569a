//! Offsets of fields in the kernel's structures, and names of its numbers, from its own BTF (Documentation/bpf/btf.rst).

const MAGIC: u16 = 0xeb9f;

// Kinds of type, include/uapi/linux/btf.h.
const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;
const LAST_KIND: u32 = 19;

/// How deep structures without a name are searched.
const MOST_NESTED: u32 = 8;
/// How many members are looked at for one field, so that data that leads in circles ends.
const MOST_MEMBERS: u32 = 10_000;

/// The kernel's types.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type starts in `types`; type 0, void, is not there.
    starts: Vec<usize>,
}

impl<'a> Btf<'a> {
    /// Reads the layout of BTF data in the machine's byte order; none if it is none, or holds a kind of
    /// type that this program does not know.
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        if u16::from_ne_bytes(data.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let field = |at| word(data, at).map(|v| v as usize);
        let body = data.get(field(4)?..)?;
        let types = body.get(field(8)?..)?.get(..field(12)?)?;
        let strings = body.get(field(16)?..)?.get(..field(20)?)?;
        let mut starts = Vec::with_capacity(types.len() / 24);
        let mut at = 0;
        while at < types.len() {
            let info = word(types, at + 4)?;
            let count = (info & 0xffff) as usize;
            let more = match kind(info) {
                INT | VAR | DECL_TAG => 4,
                ARRAY => 12,
                STRUCT | UNION | DATASEC | ENUM64 => count * 12,
                ENUM | FUNC_PROTO => count * 8,
                other if other == 0 || other > LAST_KIND => return None,
                _ => 0,
            };
            starts.push(at);
            at += 12 + more;
        }
        Some(Self { types, strings, starts })
    }

    /// Offset in bytes of a field, named by its path from a structure's name; none if there is no such
    /// field or it is a bit field.
    pub fn offset_of(&self, structure: &str, path: &[&str]) -> Option<u32> {
        let mut at = self.named(STRUCT, structure)?;
        let mut bits = 0_u32;
        let mut left = MOST_MEMBERS;
        for (depth, field) in path.iter().enumerate() {
            let (offset, of_type) = self.member(at, field, 0, &mut left)?;
            bits = bits.checked_add(offset)?;
            if depth + 1 < path.len() {
                at = self.plain(of_type)?;
            }
        }
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// The names and values of an enumeration; none if there is none of that name.
    pub fn enumerators(&self, name: &str) -> Option<Vec<(&'a str, u32)>> {
        let at = self.named(ENUM, name)?;
        let count = (word(self.types, at + 4)? & 0xffff) as usize;
        (0..count)
            .map(|index| {
                let entry = at + 12 + index * 8;
                let name = self.string(word(self.types, entry)?)?;
                Some((std::str::from_utf8(name).ok()?, word(self.types, entry + 4)?))
            })
            .collect()
    }

    /// How many parameters a function has whose pointer has this name (`typedef ... (*name)(...)`).
    pub fn parameters(&self, name: &str) -> Option<u32> {
        let pointer = self.plain(word(self.types, self.named(TYPEDEF, name)? + 8)?)?;
        if kind(word(self.types, pointer + 4)?) != PTR {
            return None;
        }
        let info = word(self.types, self.plain(word(self.types, pointer + 8)?)? + 4)?;
        (kind(info) == FUNC_PROTO).then_some(info & 0xffff)
    }

    /// The first type of a kind and a name that is more than a declaration.
    fn named(&self, wanted: u32, name: &str) -> Option<usize> {
        self.starts.iter().copied().find(|at| {
            word(self.types, *at + 4)
                .is_some_and(|info| kind(info) == wanted && (wanted == TYPEDEF || info & 0xffff != 0))
                && self.name(*at) == Some(name.as_bytes())
        })
    }

    /// A member's offset in bits and its type, also of structures without a name inside this one.
    fn member(&self, at: usize, field: &str, depth: u32, left: &mut u32) -> Option<(u32, u32)> {
        let info = word(self.types, at + 4)?;
        if !matches!(kind(info), STRUCT | UNION) || depth > MOST_NESTED {
            return None;
        }
        let with_bitfields = info >> 31 != 0;
        for index in 0..(info & 0xffff) as usize {
            *left = left.checked_sub(1)?;
            let member = at + 12 + index * 12;
            let name = self.string(word(self.types, member)?)?;
            let of_type = word(self.types, member + 4)?;
            let offset = word(self.types, member + 8)?;
            let (bits, width) = if with_bitfields { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
            if name == field.as_bytes() {
                return (width == 0).then_some((bits, of_type));
            }
            if name.is_empty()
                && let Some(inner) = self.plain(of_type)
                && let Some((more, found)) = self.member(inner, field, depth + 1, left)
            {
                return Some((bits.checked_add(more)?, found));
            }
        }
        None
    }

    /// A type without its qualifiers and other names.
    fn plain(&self, mut of_type: u32) -> Option<usize> {
        for _ in 0..32 {
            let at = *self.starts.get((of_type as usize).checked_sub(1)?)?;
            match kind(word(self.types, at + 4)?) {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => of_type = word(self.types, at + 8)?,
                _ => return Some(at),
            }
        }
        None
    }

    fn name(&self, at: usize) -> Option<&'a [u8]> {
        self.string(word(self.types, at)?)
    }

    fn string(&self, at: u32) -> Option<&'a [u8]> {
        let rest = self.strings.get(at as usize..)?;
        rest.get(..rest.iter().position(|b| *b == 0)?)
    }
}

fn kind(info: u32) -> u32 {
    (info >> 24) & 0x1f
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// struct outer { int a; struct { long b; }; const inner_t c; int d:3; }; typedef struct inner { int x; int y; } inner_t;
    /// enum e { A = 7, B = 9 }; typedef void (*f)(int, int);
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0c\0d\0inner\0inner_t\0x\0y\0e\0A\0B\0f\0";
        let at = |name: &str| {
            let needle = [b"\0", name.as_bytes(), b"\0"].concat();
            u32::try_from(strings.windows(needle.len()).position(|w| w == needle).unwrap() + 1).unwrap()
        };
        let info = |kind: u32, count: u32| kind << 24 | count;
        let words: Vec<u32> = [
            vec![at("int"), info(INT, 0), 4, 32],                                 // 1
            vec![0, info(STRUCT, 1), 8, at("b"), 1, 0],                           // 2
            vec![at("inner"), info(STRUCT, 2), 8, at("x"), 1, 0, at("y"), 1, 32], // 3
            vec![at("inner_t"), info(TYPEDEF, 0), 3],                             // 4
            vec![0, info(CONST, 0), 4],                                           // 5
            vec![at("outer"), info(STRUCT, 4) | 1 << 31, 28],                     // 6
            vec![at("a"), 1, 0, 0, 2, 64, at("c"), 5, 128, at("d"), 1, 3 << 24 | 192],
            vec![at("e"), info(ENUM, 2), 4, at("A"), 7, at("B"), 9], // 7
            vec![0, info(FUNC_PROTO, 2), 0, 0, 1, 0, 1],             // 8
            vec![0, info(PTR, 0), 8],                                // 9
            vec![at("f"), info(TYPEDEF, 0), 9],                      // 10
        ]
        .concat();
        file(&words, strings)
    }

    /// BTF data of these types and names.
    fn file(words: &[u32], strings: &[u8]) -> Vec<u8> {
        let types: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let mut data = Vec::new();
        data.extend_from_slice(&MAGIC.to_ne_bytes());
        data.extend_from_slice(&[1, 0]);
        let lengths = [24, 0, types.len(), types.len(), strings.len()];
        data.extend(lengths.iter().flat_map(|l| u32::try_from(*l).unwrap().to_ne_bytes()));
        data.extend_from_slice(&types);
        data.extend_from_slice(strings);
        data
    }

    #[test]
    fn an_offset_that_no_number_holds_is_none() {
        // struct s { struct { int a } }, each at 2^32 - 8 bits.
        let far = u32::MAX - 7;
        let words = [1, STRUCT << 24 | 1, 8, 0, 2, far, 0, STRUCT << 24 | 1, 8, 3, 3, far, 3, INT << 24, 4, 32];
        let data = file(&words, b"\0s\0a\0");
        assert_eq!(Btf::parse(&data).unwrap().offset_of("s", &["a"]), None);
    }

    #[test]
    fn a_structure_that_holds_itself_many_times_ends() {
        let members = 60;
        let words = [1, STRUCT << 24 | members, 8].into_iter().chain([0, 1, 0].repeat(members as usize));
        let data = file(&words.collect::<Vec<_>>(), b"\0s\0");
        let before = std::time::Instant::now();
        assert_eq!(Btf::parse(&data).unwrap().offset_of("s", &["a"]), None);
        assert!(before.elapsed().as_secs() < 10, "{:?}", before.elapsed());
    }

    #[test]
    fn fields_are_found_by_their_path() {
        let data = sample();
        let btf = Btf::parse(&data).unwrap();
        assert_eq!(btf.offset_of("outer", &["a"]), Some(0));
        assert_eq!(btf.offset_of("outer", &["b"]), Some(8));
        assert_eq!(btf.offset_of("outer", &["c", "y"]), Some(20));
        assert_eq!(btf.offset_of("outer", &["d"]), None);
        assert_eq!(btf.offset_of("outer", &["e"]), None);
        assert_eq!(btf.offset_of("none", &["a"]), None);
    }

    #[test]
    fn names_of_numbers_and_numbers_of_parameters() {
        let data = sample();
        let btf = Btf::parse(&data).unwrap();
        assert_eq!(btf.enumerators("e"), Some(vec![("A", 7), ("B", 9)]));
        assert_eq!(btf.enumerators("outer"), None);
        assert_eq!(btf.parameters("f"), Some(2));
        assert_eq!(btf.parameters("inner_t"), None);
    }

    proptest! {
        #[test]
        fn damaged_data_never_panics(at in 0_usize..400, value: u8, cut in 0_usize..500) {
            let mut data = sample();
            let len = data.len();
            data[at % len] = value;
            data.truncate(cut);
            if let Some(btf) = Btf::parse(&data) {
                let _ = (btf.offset_of("outer", &["c", "y"]), btf.enumerators("e"), btf.parameters("f"));
            }
        }
    }
}
