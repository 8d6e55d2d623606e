# Adapter for the BGP benchmark kit: `isocast-agent speaker` as the speaker that is measured.
# The kit sets DUTIP, DUTNS, NPEERS_CONF and W; ISOCAST_AGENT is the binary.
dut_start() { # prints the pid
  {
    printf '[router]\nasn = 65000\nrouter-id = "%s"\nlisten = ["%s:179"]\n' "$DUTIP" "$DUTIP"
    for i in $(seq 1 "$NPEERS_CONF"); do
      peer "injector$i" "198.18.1.$i" $((65000 + i)) accept reject
    done
    peer receiver 198.18.2.1 65500 reject accept
  } >"$W/isocast.toml"
  (exec ip netns exec "$DUTNS" "${ISOCAST_AGENT:?}" speaker --config "$W/isocast.toml" >"$W/isocast.log" 2>&1) &
  local pid=$!
  wait_listen >&2 || { cat "$W/isocast.log" >&2; return 1; }
  echo "$pid"
}

peer() { # NAME ADDRESS ASN IMPORT EXPORT
  cat <<EOT
[[peer]]
name = "$1"
address = "$2"
asn = $3
passive = true
hold-time-s = 180
next-hop-ipv6 = "fd18::1"
import = { default = "$4", max-prefixes = 2000000 }
export = { default = "$5" }
EOT
}

dut_version() { "${ISOCAST_AGENT:?}" --version; }
