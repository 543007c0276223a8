{{/* The name of everything. It is fixed: the cluster has one metrics API, so a second release must collide here, by
name, and not in the cluster by overwriting what the first one owns. */}}
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

{{/* registry/repository:tag of an image; the context is a list of the image's values and the chart's. */}}
{{- define "metrics-pipeline.image" -}}
{{- $image := index . 0 -}}
{{- $chart := index . 1 -}}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image.repository }}:{{ $image.tag | default $chart.AppVersion }}
{{- end }}
