//! BTF data.

use synspan::capture::live::fuzzing::Btf;

/// Asks for fields that the kernel has, that only the seeds have, and that nobody has.
pub fn run(data: &[u8]) {
    let Some(btf) = Btf::parse(data) else { return };
    let asked: [(&str, &[&str]); 6] = [
        ("sock", &["sk_protocol"]),
        ("sock", &["__sk_common", "skc_cookie"]),
        ("sock", &["sk_err"]),
        ("outer", &["c", "y"]),
        ("outer", &["d"]),
        ("s", &["a", "a", "a", "a"]),
    ];
    for (structure, path) in asked {
        let offset = btf.offset_of(structure, path);
        assert_eq!(offset, btf.offset_of(structure, path), "the same question, another answer");
    }
    // One that the data do not name is not there; an engine that watches comparisons may well write it in.
    let absent = "\u{1}no such field";
    if !data.windows(absent.len()).any(|at| at == absent.as_bytes()) {
        assert_eq!(btf.offset_of("sock", &[absent]), None);
    }
}
