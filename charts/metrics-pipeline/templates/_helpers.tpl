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

{{/* The labels of hooks. They do not match the selector of the operator's Deployment. */}}
{{- define "metrics-pipeline.hookLabels" -}}
app.kubernetes.io/name: metrics-pipeline-hook
app.kubernetes.io/component: hook
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: metrics-pipeline
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The annotations of hooks; the context is the weight. A hook that failed stays until the next one, to be read. */}}
{{- define "metrics-pipeline.installHook" -}}
helm.sh/hook: post-install,post-upgrade,post-rollback
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- define "metrics-pipeline.uninstallHook" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* The spec of a hook's NetworkPolicy: DNS and kube-apiserver. The context is a list of the chart's context and the name
of the Job. */}}
{{- define "metrics-pipeline.hookNetworkPolicy" -}}
{{- $ := index . 0 -}}
podSelector:
  matchLabels:
    batch.kubernetes.io/job-name: {{ index . 1 }}
policyTypes: [Ingress, Egress]
egress:
  - ports:
      {{- range $.Values.networkPolicy.apiServerPorts }}
      - port: {{ . }}
        protocol: TCP
      {{- end }}
      - port: 53
        protocol: UDP
      - port: 53
        protocol: TCP
{{- end }}

{{/* The rest of a hook's Job. The context is a list of the chart's context, the name of the ServiceAccount and the
arguments. */}}
{{- define "metrics-pipeline.hookJob" -}}
{{- $ := index . 0 -}}
# The hook retries by itself; only the loss of its pod is worth another one.
backoffLimit: 3
# A Job that failed stays, to be read, until the next hook or for this time.
ttlSecondsAfterFinished: 3600
podFailurePolicy:
  rules:
    - action: FailJob
      onExitCodes:
        operator: In
        values: [1, 2]
template:
  metadata:
    labels:
      {{- include "metrics-pipeline.hookLabels" $ | nindent 6 }}
      {{- with $.Values.podLabels }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with $.Values.podAnnotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    serviceAccountName: {{ index . 1 }}
    {{- with $.Values.imagePullSecrets }}
    imagePullSecrets:
      {{- range . }}
      - name: {{ . }}
      {{- end }}
    {{- end }}
    {{- with $.Values.priorityClassName }}
    priorityClassName: {{ . }}
    {{- end }}
    restartPolicy: Never
    securityContext:
      runAsNonRoot: true
      seccompProfile:
        type: RuntimeDefault
    enableServiceLinks: false
    containers:
      - name: hook
        image: {{ include "metrics-pipeline.image" (list $.Values.image $.Chart) }}
        imagePullPolicy: {{ $.Values.image.pullPolicy }}
        args:
          {{- range index . 2 }}
          - {{ . | toJson }}
          {{- end }}
        resources:
          {{- toYaml $.Values.resources | nindent 10 }}
        terminationMessagePolicy: FallbackToLogsOnError
        securityContext:
          allowPrivilegeEscalation: false
          readOnlyRootFilesystem: true
          runAsNonRoot: true
          capabilities:
            drop: [ALL]
    {{- with $.Values.nodeSelector }}
    nodeSelector:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $.Values.tolerations }}
    tolerations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $.Values.affinity }}
    affinity:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
