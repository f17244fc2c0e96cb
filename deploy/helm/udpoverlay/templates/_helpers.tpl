{{- define "udpoverlay.image" -}}
{{ .Values.flannel.image.repository }}:{{ .Values.flannel.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* flannel.image_cni is the name in older values; it wins where it is set. */ -}}
{{- define "udpoverlay.cniImage" -}}
{{- $alias := .Values.flannel.image_cni | default dict -}}
{{- $image := merge (dict) $alias .Values.flannel.flannel_cni.image -}}
{{ $image.repository }}:{{ $image.tag }}
{{- end }}

{{- define "udpoverlay.check" -}}
{{- if ne (lower .Values.flannel.backend) "udp" }}
{{- fail (printf "flannel.backend %q: this chart runs the udp backend; set flannel.backend=udp" .Values.flannel.backend) }}
{{- end }}
{{- if .Values.netpol.enabled }}
{{- fail "netpol.enabled: network policies are not part of this chart; install a policy engine beside it" }}
{{- end }}
{{- if not .Values.podCidr }}
{{- fail "podCidr is empty: the udp backend carries IPv4; set the range of your pods" }}
{{- end }}
{{- end }}
