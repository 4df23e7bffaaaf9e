import java.io.InputStream;
import java.net.Authenticator;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.PasswordAuthentication;
import java.net.Proxy;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * Visits the site through a proxy with Java's clients, and fails where anything is not as it should be: HttpClient at
 * an HTTP proxy, URLConnection (which knows SOCKS) at a SOCKS proxy.
 *
 * <p>usage: java Visit.java http|socks HOST PORT USER PASSWORD PLAIN TLS SIX CERTIFICATE
 */
class Visit {
    static final byte[] UPLOAD = new byte[256_000];

    static byte[] body() {
        byte[] body = new byte[300_000];
        for (int at = 0; at < body.length; at++) body[at] = (byte) (at >> 16);
        return body;
    }

    static void wants(String what, boolean got) {
        if (!got) throw new AssertionError(what);
    }

    public static void main(String[] args) throws Exception {
        var proxy = new InetSocketAddress(args[1], Integer.parseInt(args[2]));
        var login = new PasswordAuthentication(args[3], args[4].toCharArray());
        var authenticator = new Authenticator() {
            int asked;

            @Override
            protected PasswordAuthentication getPasswordAuthentication() {
                // URLConnection asks on and on.
                return asked++ < 100 ? login : null;
            }
        };
        var store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream file = Files.newInputStream(Path.of(args[8]))) {
            store.setCertificateEntry("site", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        var tls = SSLContext.getInstance("TLS");
        tls.init(null, trust.getTrustManagers(), null);
        var origins = List.of(args[5], args[6]);
        if (args[0].equals("http")) {
            client(proxy, args[3].isEmpty() ? null : authenticator, tls, origins, args[7]);
        } else {
            Authenticator.setDefault(authenticator);
            javax.net.ssl.HttpsURLConnection.setDefaultSSLSocketFactory(tls.getSocketFactory());
            for (String origin : List.of(args[5], args[6], args[7])) {
                connection(new Proxy(Proxy.Type.SOCKS, proxy), origin);
            }
        }
        System.out.println("as it should be");
        System.exit(0);
    }

    static void client(
            InetSocketAddress proxy, Authenticator login, SSLContext tls, List<String> origins, String six)
            throws Exception {
        // By default it would change to HTTP/2 wherever a server offers that.
        var made = HttpClient.newBuilder().proxy(ProxySelector.of(proxy)).sslContext(tls);
        if (login != null) made.authenticator(login);
        var client = made.build();
        for (String origin : origins) {
            var get = request(origin + "/bytes/300000").build();
            var got = client.send(get, BodyHandlers.ofByteArray());
            if (got.statusCode() == 407) throw new AssertionError("refused: 407");
            wants("GET", Arrays.equals(got.body(), body()));
            var many = new CompletableFuture[8];
            for (int at = 0; at < many.length; at++) {
                many[at] = client.sendAsync(get, BodyHandlers.ofByteArray())
                        .thenAccept(one -> wants("several at once", Arrays.equals(one.body(), body())));
            }
            CompletableFuture.allOf(many).get(30, TimeUnit.SECONDS);
            for (boolean expects : new boolean[] {false, true}) {
                var post = request(origin + "/echo").expectContinue(expects);
                var echoed = client.send(
                        post.POST(BodyPublishers.ofByteArray(UPLOAD)).build(), BodyHandlers.ofByteArray());
                wants("upload, waiting for 100: " + expects, Arrays.equals(echoed.body(), UPLOAD));
            }
            var chunked = client.send(request(origin + "/chunked/300000").build(), BodyHandlers.ofByteArray());
            wants("chunks", Arrays.equals(chunked.body(), body()));
            // On a client of its own: for a WebSocket, which needs CONNECT, Java takes a connection to the proxy out of
            // its pool that has seen none, and then speaks to the origin.
            socket(made.build(), origin);
        }
        var got = client.send(request(six + "/bytes/300000").build(), BodyHandlers.ofByteArray());
        wants("IPv6", Arrays.equals(got.body(), body()));
    }

    static HttpRequest.Builder request(String url) {
        return HttpRequest.newBuilder(URI.create(url)).timeout(Duration.ofSeconds(20));
    }

    static void socket(HttpClient client, String origin) throws Exception {
        var heard = new CompletableFuture<String>();
        var listener = new WebSocket.Listener() {
            final StringBuilder text = new StringBuilder();

            @Override
            public CompletionStage<?> onText(WebSocket socket, CharSequence part, boolean last) {
                text.append(part);
                if (last) heard.complete(text.toString());
                socket.request(1);
                return null;
            }
        };
        var url = URI.create(origin.replaceFirst("http", "ws") + "/ws");
        var socket = client.newWebSocketBuilder().buildAsync(url, listener).get(20, TimeUnit.SECONDS);
        var sent = "x".repeat(100_000);
        socket.sendText(sent, true);
        wants("websocket", heard.get(20, TimeUnit.SECONDS).equals(sent));
        socket.sendClose(WebSocket.NORMAL_CLOSURE, "");
    }

    static void connection(Proxy proxy, String origin) throws Exception {
        for (int time = 0; time < 3; time++) {
            var connection = (HttpURLConnection) URI.create(origin + "/bytes/300000").toURL().openConnection(proxy);
            wants("GET by SOCKS", Arrays.equals(connection.getInputStream().readAllBytes(), body()));
        }
    }
}
