{{- /* Refuses secrets that stand in the configuration itself: a ConfigMap is no place for them. Takes value and path. */ -}}
{{- define "flamecrest.refuseSecrets" -}}
{{- $path := .path -}}
{{- if kindIs "map" .value -}}
{{- range $key, $one := .value -}}
{{- $at := printf "%s.%s" $path $key -}}
{{- $secret := has (snakecase $key) (list "private_key" "passphrase" "pin" "secret" "secret_access_key" "access_key_id" "signing_key" "key" "token" "store") -}}
{{- if and $secret (kindIs "string" $one) (ne $one "") (not (hasPrefix "secret_file:" $one)) -}}
{{- fail (printf "%s is a secret: put it into a Secret, name that in existingSecret, and write \"secret_file:/run/secrets/flamecrest/KEY\" here" $at) -}}
{{- end -}}
{{- include "flamecrest.refuseSecrets" (dict "value" $one "path" $at) -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $number, $one := .value -}}
{{- include "flamecrest.refuseSecrets" (dict "value" $one "path" (printf "%s[%d]" $path $number)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
