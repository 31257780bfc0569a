#!/usr/bin/env bash
# hostile.sh: gives a pod of the lab annotations that try to break whoever shows them: escapes that retitle and recolour a
# terminal, line breaks, a mark that turns the direction of writing, quotes, another script, and ten thousand characters.
set -euo pipefail
pod=$("$SYNSPAN_KUBE_KUBECTL" get pods -n shop -o name | grep vehicle-control)
name=$(printf 'evil\033]0;owned\007\033[31m\ntcp connect  forged \342\200\256\\"quotes\\" \346\224\257\344\273\230')
long=$(printf 'x%.0s' {1..10000})
"$SYNSPAN_KUBE_KUBECTL" annotate -n shop "$pod" \
    "resource.opentelemetry.io/service.name=$name" "resource.opentelemetry.io/team=$long" \
    "resource.opentelemetry.io/k8s.pod.name=forged" "resource.opentelemetry.io/service.instance.id=forged" >/dev/null
