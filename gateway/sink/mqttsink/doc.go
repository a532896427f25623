// Package mqttsink publishes events to another MQTT broker, in the cloud or on
// another gateway, and takes messages from there in as events. It speaks MQTT
// 3.1.1.
//
// # What is promised
//
// With qos 1 an event counts as delivered when the far side has sent its
// PUBACK. Events of a stream are published in order. When the connection is
// lost or an acknowledgement does not come in time, the connection is given up
// and the batch goes on behind the last event up to which all were
// acknowledged: what was in flight comes again, at most max_inflight messages,
// never an event of an earlier batch. With payload: item each carries an
// identity by which the far side can tell. With qos 0 nothing is promised, for
// nobody can tell whether a message has arrived.
//
// A broker answers a message that it does not want by hanging up, without a
// word about which one it was. So no event is ever blamed: it is sent again
// until the far side or the settings change. Set max_payload to the limit of
// the far side, and what is larger becomes a dead letter instead.
//
// # Messages from the far side
//
// subscribe makes events of messages there, under the topic that to says. A
// message is acknowledged when its event is on disk. The far side keeps the
// session while the gateway is away, if it can: what is published meanwhile
// with QoS 1 arrives after the start. The session belongs to a second
// connection, named by subscribe_client_id.
//
// Messages arrive at least once. A repetition is recognized when the
// connection was lost before the acknowledgement could be sent. Not when the
// acknowledgement was lost on its way, nor when the gateway was killed between
// the commit and the acknowledgement: packet identifiers are used again by
// other messages, and a message lost is worse than one repeated. Commands that
// must not run twice need an identity of their own. A retained message comes
// again at every start of the gateway; so do not retain commands.
//
// status shows on a topic of the far side whether this second connection is
// up, with the will for when it is lost.
//
// # Loops
//
// MQTT 3.1.1 has no place for the path of a message. Two gateways tell each
// other their names instead: a connection says that it is a bridge, by the bit
// in the protocol level that Mosquitto's bridges set, and subscribes to
// $SYS/holdfast/bridge/ with the own name behind; the far side answers there
// with its own. What one gateway has from the other, by its publishing or by
// subscribe, it neither publishes there nor sends to a subscription from
// there. So two gateways that are bridged both ways pass nothing round,
// whatever their topics are. A far side that does not know bridges is asked
// once for each start of the gateway; bridge: false spares it that.
//
// Apart from that these are not sent, and counted as filtered:
//
//   - to a far side, what came from it through subscribe: such events have the
//     source "bridge" and the destination's name as their client;
//   - what came from a client listed in peers, which is for far sides that are
//     no gateways but send back under a client identifier of their own;
//   - with payload: item, what this gateway has sent before, alone or wrapped
//     by others, and what more than eight gateways have wrapped.
//
// Circles of three and more gateways are broken with payload: item only; with
// raw, keep the directions apart by topics. Where the topics sent and
// subscribed to overlap, a far side that is no gateway sends back what it was
// sent. This comes in once more, as an event of the source "bridge", and ends
// there. What a rule makes of an event is a new event.
//
// # Samples
//
// None of these has been tried against the real service; limits are those of
// its documentation and may have changed.
//
//	# Mosquitto
//	destinations:
//	  site:
//	    type: mqtt
//	    url: ssl://broker.example.com     # port 8883
//	    username: plant-7
//	    password: ${MQTT_PASSWORD}
//	    tls: {ca: ca.pem}
//	    subscribe:
//	      - {topic: "cmd/plant-7/#", to: "down/{topic}"}
//
// Mosquitto keeps 1,000 messages for an absent client (max_queued_messages),
// and none through its own kill -9.
//
//	# EMQX
//	destinations:
//	  emqx:
//	    type: mqtt
//	    url: wss://emqx.example.com:8084  # path /mqtt; or ssl:// with port 8883
//	    username: plant-7
//	    password: change-me
//	    max_payload: 1MiB                 # mqtt.max_packet_size
//	    status: {topic: "gateways/{gateway}/status"}
//
// A session lasts mqtt.session_expiry_interval there, two hours by default.
//
//	# HiveMQ
//	destinations:
//	  hivemq:
//	    type: mqtt
//	    url: ssl://1a2b3c.s1.eu.hivemq.cloud
//	    username: plant-7
//	    password: change-me
//	    payload: item
//	    status: {topic: "gateways/{gateway}/status"}
//
//	# AWS IoT Core
//	destinations:
//	  aws:
//	    type: mqtt
//	    url: ssl://abc123-ats.iot.eu-central-1.amazonaws.com:443
//	    client_id: plant-7                # the policy must allow it, and plant-7-down
//	    tls:
//	      ca: AmazonRootCA1.pem
//	      cert: plant-7.pem
//	      key: plant-7.key
//	      alpn: [x-amzn-mqtt-ca]          # on port 443; not needed on 8883
//	    keep_alive: 60s                   # 30 s to 20 min
//	    max_payload: 128KiB
//	    max_inflight: 100                 # its limit; 100 messages/s and connection
//	    topic: "plant-7/{topic}"          # at most 7 slashes, 256 bytes; or "$aws/rules/NAME/{topic}"
//	    subscribe:
//	      - {topic: "cmd/plant-7/#", to: "down/{topic}"}
//
// AWS hangs up when the policy does not allow a topic. It keeps a session for
// an hour by default.
//
//	# Azure IoT Hub
//	destinations:
//	  azure:
//	    type: mqtt
//	    url: ssl://myhub.azure-devices.net
//	    client_id: plant-7                # the device
//	    username: myhub.azure-devices.net/plant-7/?api-version=2021-04-12
//	    tls: {cert: plant-7.pem, key: plant-7.key} # or password_file with a SAS token, which something must renew
//	    topic: "devices/plant-7/messages/events/topic={stream}"
//	    payload: item                     # the topic is fixed, the item has that of the event
//	    max_payload: 255KiB
//	    retain: never                     # refused there
//
// Azure allows one connection for each device: subscribe and status need the
// identity of a second device in a destination of their own, with
// client_id and subscribe_client_id in place.
//
//	# Another gateway
//	destinations:
//	  hub:
//	    type: mqtt
//	    url: tcp://hub.example.com
//	    username: edge-3
//	    password: change-me
//	    payload: item
package mqttsink
