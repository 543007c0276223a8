{{/* The name of all objects. It is fixed: a cluster has one Metrics API, so a second release must fail because of an
existing name, and not overwrite the objects of the first one. */}}
{{- define "metrics-pipeline.name" -}}
metrics-pipeline-operator
{{- end }}

{{- define "metrics-pipeline.selector" -}}
app.kubernetes.io/name: metrics-pipeline-operator
app.kubernetes.io/component: operator
{{- end }}

{{- define "metrics-pipeline.labels" -}}
{{ include "metrics-pipeline.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: metrics-pipeline
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The reference of an image: registry/repository@digest if a digest is set, else registry/repository:tag. The context
is a list of the image's values and the chart. */}}
{{- define "metrics-pipeline.image" -}}
{{- $image := index . 0 -}}
{{- $chart := index . 1 -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $chart.AppVersion }}{{ end }}
{{- end }}

{{/* The binding that enforces a policy of admission-policies.yaml. The context is a list of the chart's context and the
suffix of the policy's name. */}}
{{- define "metrics-pipeline.policyBinding" -}}
{{- $context := index . 0 -}}
{{- $name := printf "%s-%s" (include "metrics-pipeline.name" $context) (index . 1) -}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $name }}
  labels:
    {{- include "metrics-pipeline.labels" $context | nindent 4 }}
spec:
  policyName: {{ $name }}
  validationActions: [Deny, Audit]
{{- end }}
