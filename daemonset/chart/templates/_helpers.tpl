{{/* Always contains the chart's name: the agent knows its policy by it. With "-dashboard" and the like below 63 characters. */}}
{{- define "pre-oom-killer.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc 32 | trimSuffix "-") .Chart.Name -}}
{{- end -}}
{{- end -}}

{{- define "pre-oom-killer.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pre-oom-killer.labels" -}}
{{ include "pre-oom-killer.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "pre-oom-killer.kubeVersion" -}}
{{- .Values.kubeVersionOverride | default .Capabilities.KubeVersion.Version -}}
{{- end -}}

{{/* The mode of confinement. "-0" lets pre-releases and vendors' suffixes count. */}}
{{- define "pre-oom-killer.confinement" -}}
{{- $version := include "pre-oom-killer.kubeVersion" . -}}
{{- if ne .Values.confinement "auto" -}}
{{- .Values.confinement -}}
{{- else if semverCompare ">=1.36.0-0" $version -}}
impersonation
{{- else if semverCompare ">=1.30.0-0" $version -}}
policy
{{- else -}}
none
{{- end -}}
{{- end -}}

{{/* "true" where namespaces are guarded: the server has to have admissionregistration.k8s.io/v1 MutatingAdmissionPolicy. */}}
{{- define "pre-oom-killer.namespaces" -}}
{{- and .Values.namespaces.enabled (semverCompare ">=1.36.0-0" (include "pre-oom-killer.kubeVersion" .)) -}}
{{- end -}}

{{/* "true" where the agent may patch pods/resize. */}}
{{- define "pre-oom-killer.resizes" -}}
{{- or .Values.remedies.raise .Values.remedies.restart -}}
{{- end -}}

{{/* CEL: is it the agent that asks? */}}
{{- define "pre-oom-killer.isAgent" -}}
{{- $name := include "pre-oom-killer.name" . -}}
{{- if .Values.policy.anyNamespace -}}
request.userInfo.username.startsWith('system:serviceaccount:') && request.userInfo.username.endsWith(':{{ $name }}')
{{- else -}}
request.userInfo.username == 'system:serviceaccount:{{ .Release.Namespace }}:{{ $name }}'
{{- end -}}
{{- end -}}
