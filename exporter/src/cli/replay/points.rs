//! What the command line says of files and their points.

use std::path::PathBuf;

use crate::capture::observation::PointKind;
use crate::capture::replay::PointRule;

/// One `--point`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PointArg {
    rule: PointRule,
    file: PathBuf,
}

/// Reads `KIND=FILE` or `KIND:NAME=FILE`.
pub fn parse(text: &str) -> Result<PointArg, String> {
    let (point, file) = text.split_once('=').ok_or("expected KIND=FILE or KIND:NAME=FILE")?;
    let (kind, name) = point.split_once(':').map_or((point, None), |(kind, name)| (kind, Some(name.to_owned())));
    let kinds = [PointKind::PodNic, PointKind::NodeNic, PointKind::Overlay];
    let kind = kinds
        .into_iter()
        .find(|known| known.as_str() == kind)
        .ok_or_else(|| format!("`{kind}` is no kind of point: pod_nic, node_nic or overlay"))?;
    if file.is_empty() || name.as_deref() == Some("") {
        return Err("a name or a file is missing: expected KIND=FILE or KIND:NAME=FILE".to_owned());
    }
    Ok(PointArg { rule: PointRule { kind, name }, file: file.into() })
}

/// The files, each once, with all that is said of its points.
pub fn files(files: &[PathBuf], points: &[PointArg]) -> Vec<(PathBuf, Vec<PointRule>)> {
    let mut all: Vec<(PathBuf, Vec<PointRule>)> = Vec::new();
    let said = points.iter().map(|point| (&point.file, Some(&point.rule)));
    for (file, rule) in said.chain(files.iter().map(|file| (file, None))) {
        let at = all.iter().position(|(known, _)| known == file).unwrap_or_else(|| {
            all.push((file.clone(), Vec::new()));
            all.len() - 1
        });
        all[at].1.extend(rule.cloned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_has_a_kind_perhaps_a_name_and_a_file() {
        let point = parse("pod_nic:veth-b=a=b.pcap").unwrap();
        assert_eq!(point.rule, PointRule { kind: PointKind::PodNic, name: Some("veth-b".into()) });
        assert_eq!(point.file, PathBuf::from("a=b.pcap"));
        assert_eq!(parse("overlay=x").unwrap().rule.name, None);
        assert!(parse("pod=x").unwrap_err().contains("no kind of point"));
        assert!(parse("x.pcap").is_err() && parse("pod_nic=").is_err() && parse("pod_nic:=x").is_err());
    }

    #[test]
    fn a_file_that_is_named_twice_is_read_once() {
        let points = [parse("pod_nic:a=x").unwrap(), parse("node_nic:b=x").unwrap()];
        let all = files(&["x".into(), "y".into()], &points);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].1.len(), all[1].1.len()), (2, 0));
    }
}
