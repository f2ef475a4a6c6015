{{/* Never the release's name alone: a Service "syncnorm" gives the other pods of the namespace
     SYNCNORM_PORT=tcp://..., which workers read. */}}
{{- define "syncnorm.name" -}}
{{- printf "%s-coordinator" (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- end -}}

{{- define "syncnorm.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: coordinator
{{- end -}}

{{- define "syncnorm.labels" -}}
{{ include "syncnorm.selector" . }}
app.kubernetes.io/part-of: syncnorm
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "syncnorm.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ printf "%s@%s" .repository .digest }}
{{- else -}}
{{ printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether port 7070 speaks TLS: "true" or "".  Plaintext has to be said. */}}
{{- define "syncnorm.tls" -}}
{{- if and .Values.tls.existingSecret .Values.tls.insecure -}}
{{- fail "tls.existingSecret and tls.insecure exclude each other: one of them has to go" -}}
{{- else if .Values.tls.existingSecret -}}
true
{{- else if not .Values.tls.insecure -}}
{{- fail "tls.existingSecret is empty: name a secret with tls.crt, tls.key and ca.crt, or say tls.insecure=true" -}}
{{- end -}}
{{- end -}}

{{/* The coordinator's configuration file; values.schema.json keeps these keys out of config.  Through toYaml: a large number printed by itself would
     read 2.68435456e+08. */}}
{{- define "syncnorm.config" -}}
{{- $own := dict
      "listen" (printf "%s:7070" .Values.listenHost)
      "admin_listen" (printf "%s:7071" .Values.listenHost)
      "admin_insecure" true
      "drain_grace" (printf "%ds" (int .Values.drainGraceSeconds)) -}}
{{- if include "syncnorm.tls" . -}}
{{- $_ := set $own "tls_dir" "/etc/syncnorm/tls" -}}
{{- else -}}
{{- $_ := set $own "insecure" true -}}
{{- end -}}
{{- if .Values.tokens.existingSecret -}}
{{- $_ := set $own "tokens" "/etc/syncnorm/tokens/tokens" -}}
{{- end -}}
{{- toYaml (merge $own .Values.config) -}}
{{- end -}}
